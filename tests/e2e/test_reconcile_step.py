"""The step of the GitHub Action, run as the action runs it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.legacy import Legacy
from tests.support.node import ROOT
from tests.support.proxy import changeover


async def step(directory: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    command = directory / "bin" / "changeover"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m changeover "$@"\n')
    command.chmod(0o755)
    environment = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "DIRECTORY": str(directory / "reports"),
        "GITHUB_OUTPUT": str(directory / "output"),
        "GITHUB_STEP_SUMMARY": str(directory / "summary"),
    }
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "scripts/reconcile-step"],
        cwd=ROOT,
        env=os.environ | environment | inputs,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(name="inputs")
def _inputs(legacy: Legacy, tmp_path: Path) -> dict[str, str]:
    inputs = {
        "CHANGEOVER_LEGACY": f"http://127.0.0.1:{legacy.port}",
        "CHANGEOVER_CONTRACT": "examples/contract.toml",
        "CHANGEOVER_DATABASE": f"sqlite:///{tmp_path / 'log.db'}",
        "CHANGEOVER_LEGACY_TOKEN": "",
        "CHANGEOVER_KEYS": "",
        "PHASES": "rules agents",
    }
    where = ("--legacy", inputs["CHANGEOVER_LEGACY"], "--contract", inputs["CHANGEOVER_CONTRACT"])
    done = changeover("backfill", "rules", *where, "--database", inputs["CHANGEOVER_DATABASE"])
    assert done.returncode == 0, done.stderr
    return inputs


async def test_a_clean_run_passes_and_leaves_all_reports(inputs: dict[str, str], tmp_path: Path) -> None:
    done = await step(tmp_path, **inputs | {"PHASES": "rules"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "output").read_text() == "verdict=clean\nexit-code=0\n"
    assert "Reconcile: clean" in (tmp_path / "summary").read_text()
    endings = {path.suffix for path in (tmp_path / "reports").iterdir()}
    assert endings == {".json", ".xml", ".sarif", ".md", ".html"}


async def test_drift_fails_the_step_and_is_in_its_summary(inputs: dict[str, str], tmp_path: Path) -> None:
    done = await step(tmp_path, **inputs)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "verdict=drift" in (tmp_path / "output").read_text()
    assert "missing in log" in (tmp_path / "summary").read_text()


async def test_an_error_is_no_verdict(inputs: dict[str, str], tmp_path: Path) -> None:
    done = await step(tmp_path, **inputs | {"CHANGEOVER_DATABASE": "sqlite:////nowhere/log.db"})
    assert done.returncode == 3
    assert "verdict=error" in (tmp_path / "output").read_text()


def test_the_action_hands_every_input_over_as_a_variable() -> None:
    """An input pasted into the text of a script could become a command."""
    action = (ROOT / "action.yml").read_text()
    scripts = re.findall(r"^ +run: (.*)$", action, re.MULTILINE)
    assert scripts
    assert not any("${{" in script for script in scripts)
