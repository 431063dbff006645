"""A step of the write path kills the process when, and only when, it is armed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from shadow.faults import POINTS, Point

SCRIPT = "from shadow.faults import Point, reach; [reach(Point(name)) for name in {names!r}]; print('alive')"


def run(fault: str, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(names=names)],
        env={**os.environ, "CHANGEOVER_FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("fault", "arrivals", "killed"),
    [("", 3, False), ("before-begin", 1, True), ("before-begin:3", 2, False), ("before-begin:3", 3, True)],
)
def test_a_process_is_killed_at_the_arrival_that_it_was_armed_for(fault: str, arrivals: int, killed: bool) -> None:
    ended = run(fault, *["inside-begin", "before-begin"] * arrivals)
    assert ended.returncode == (-signal.SIGKILL if killed else 0), ended.stderr


def test_an_unknown_step_is_not_silently_ignored() -> None:
    assert "not a valid Point" in run("nowhere", "before-begin").stderr


def test_all_steps_are_listed() -> None:
    assert set(POINTS) == set(Point)
