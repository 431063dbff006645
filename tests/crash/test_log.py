"""Killed at any step of the write path, a log has kept what it acknowledged and holds nothing by halves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shadow.events import EntityKey
from shadow.faults import POINTS, Point
from shadow.journal import Outcome
from shadow.log import Log
from shadow.reader import At, Reader
from tests.support.facts import draft, intent
from tests.support.postgres import Postgres

OF_THE_LOG = [point for point in POINTS if point.endswith(("-begin", "-settle", "events-written"))]


def run_until_killed(url: str, point: Point, arrival: int) -> list[list[str]]:
    """Run the workload and return what it said before it was killed."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.crash.log_workload", url],
        env={**os.environ, "CHANGEOVER_FAULT": f"{point}:{arrival}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return [line.split() for line in ended.stdout.splitlines()]


def check(reader: Reader, said: list[list[str]]) -> None:
    """Check that a log keeps its promises about everything that was said."""
    assert reader.verify() is None
    events = {event.draft.id: event for event in reader.read(["*"], 0, 10_000)}
    intents = {found.id: found for found in reader.intents()}
    for word, id, *event in said:
        if word == "begun":
            assert int(id) in intents, f"intent {id} was acknowledged and is lost"
        else:
            assert intents[int(id)].outcome is Outcome.APPLIED
            assert event[0] in events, f"event {event[0]} was acknowledged and is lost"
    applied = [found for found in intents.values() if found.outcome is Outcome.APPLIED]
    assert len(applied) == len(events), "an intent is applied exactly when its event is there"
    assert {found.position for found in applied} == {event.position for event in events.values()}
    assert dict(reader.states("session", None, 100)) == reader.states_at(At(position=len(events)))


@pytest.mark.parametrize("arrival", [1, 4])
@pytest.mark.parametrize("point", OF_THE_LOG)
async def test_a_log_in_a_file_survives_being_killed(tmp_path: Path, point: Point, arrival: int) -> None:
    url = f"sqlite:///{tmp_path}/log.db"
    said = run_until_killed(url, point, arrival)
    log = Log.open(url)
    check(log, said)
    last = max((found.id for found in log.intents()), default=0)
    assert await log.begin([intent()]) == (last + 1,)
    await log.append([draft("after", EntityKey("session", "after"))])
    assert log.verify() is None
    await log.close()


@pytest.mark.parametrize("point", [Point.INSIDE_SETTLE, Point.AFTER_SETTLE])
async def test_a_log_on_a_server_survives_its_writer_being_killed(postgres: Postgres, point: Point) -> None:
    url = postgres.database()
    said = run_until_killed(url, point, 3)
    log = Log.open(url)
    check(log, said)
    await log.append([draft("after", EntityKey("session", "after"))])
    assert log.verify() is None
    await log.close()
