"""The benchmark runs; what it measures is no matter for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.bench
@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("http", {"pass-through query, 32 connections", "durable dual write, 128 connections"}),
        ("log", {"append to the log, group commit", "replay into state"}),
        ("feed", {"commit to 1 SSE reader, p50"}),
        ("reconcile", {"reconcile 200 entities"}),
        ("start", {"changeover --help"}),
        ("growth", {"dual writes, a log with 10,000 entities"}),
    ],
)
def test_each_part_of_the_benchmark_runs_and_tells_machines_what_it_found(
    tmp_path: Path, part: str, names: set[str]
) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench", "--rounds", "1", "--seconds", "1", "--scale", "0.002"]
    run = subprocess.run(
        [*command, "--only", part, "--json", str(found)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stderr
    rows = json.loads(found.read_text())
    assert names <= {row["name"] for row in rows}
    for row in rows:
        assert {"name", "ours", "theirs", "ratio", "target", "met"} <= row.keys()
        # A row is measured, or says why it is not.
        assert (row["met"] is None and row["note"]) if row["ours"] is None else row["ours"] > 0


@pytest.mark.bench
@pytest.mark.parametrize(
    "command", [["bench.parts"], ["bench.floor", "--seconds", "1"], ["bench.processor", "--seconds", "1"]]
)
def test_what_tells_where_the_time_goes_runs(command: list[str]) -> None:
    run = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
