"""Every command of every runbook does what the page says, in the order of the page."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.legacy import Legacy
from tests.support.node import ROOT
from tests.support.node_client import Client, NodeClient, mutation
from tests.support.proxy import CONTRACT, running_proxy

RUNBOOKS = sorted(path for path in (ROOT / "runbooks").glob("*.md") if path.name != "README.md")


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page, as they stand."""
    return [
        textwrap.dedent(block)
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
async def test_a_runbooks_commands_run(page: Path, legacy: Legacy, tmp_path: Path, node_client: NodeClient) -> None:
    initial = "off" if page.stem == "turn-a-phase-on" else "dualwrite"
    address = f"http://127.0.0.1:{legacy.port}"
    command = tmp_path / "bin" / "changeover"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m changeover "$@"\n')
    command.chmod(0o755)
    async with running_proxy(address, tmp_path / "proxy", "--initial-stage", initial) as proxy:
        client = Client(f"{proxy.url}/trpc")
        made = await node_client.call(client, mutation("session.create", {"provider": "openai", "model": "gpt-5"}))
        environment = {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "CHANGEOVER_LEGACY": address,
            "CHANGEOVER_CONTRACT": str(CONTRACT),
            "CHANGEOVER_DATABASE": proxy.database,
            "CHANGEOVER_ADMIN": proxy.admin,
            "SESSION": made.data["id"],
        }
        for block in blocks(page):
            done = await asyncio.to_thread(
                subprocess.run,
                ["sh", "-euc", block],
                cwd=ROOT,
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
            assert done.stdout.strip()


def test_every_runbook_is_listed_and_says_how_to_see_that_it_worked() -> None:
    index = (ROOT / "runbooks" / "README.md").read_text()

    for page in RUNBOOKS:
        text = page.read_text()
        assert f"({page.name})" in index
        assert "**Before.**" in text
        assert "**See that it worked" in text
        assert blocks(page)
