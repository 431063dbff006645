"""The benchmark of the log runs; what it measures is not for a test to judge."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.bench
def test_the_benchmark_of_the_log_runs() -> None:
    ended = subprocess.run([sys.executable, "-m", "bench.log", "--scale", "0.01"], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    figures = json.loads(ended.stdout)
    assert figures
    assert all(value > 0 for value in figures.values())
