"""While many calls are under way, a command waits some moments for others, so that one fsync serves them all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shadow import writer
from shadow.events import Draft
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.log import Log

MANY = writer._SIBLINGS + 1


def intents(count: int) -> list[NewIntent]:
    return [NewIntent("r", index, "p", None, 0, None, None, None, 0, 1) for index in range(count)]


def draft(number: int) -> Draft:
    return Draft(f"event-{number}", "c", "t", 1, {})


@pytest.fixture(name="log")
async def _log(tmp_path: Path) -> AsyncIterator[Log]:
    log = Log.open(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    await log.close()


@pytest.fixture(name="moments")
def _moments(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times for which the writer's thread waited."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


async def test_a_lone_command_waits_for_nobody(log: Log, moments: list[float]) -> None:
    await log.begin(intents(writer._SIBLINGS))
    await log.append([draft(1)])
    assert moments == []


async def test_a_command_waits_a_few_moments_while_many_calls_are_under_way(log: Log, moments: list[float]) -> None:
    await log.begin(intents(MANY))
    await log.append([draft(1)])
    assert moments == [writer._MOMENT] * writer._MOMENTS


async def test_what_comes_meanwhile_is_written_with_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, sleep, later = asyncio.get_running_loop(), time.sleep, asyncio.Event()

    def waiting(seconds: float) -> None:
        loop.call_soon_threadsafe(later.set)
        sleep(0.05)

    await log.begin(intents(MANY))
    monkeypatch.setattr(time, "sleep", waiting)
    told: list[int] = []
    log.on_commit(lambda events: told.append(len(events)))
    async with asyncio.TaskGroup() as group:
        group.create_task(log.append([draft(1)]))
        await later.wait()
        group.create_task(log.append([draft(2)]))
    assert told == [2]


async def test_enough_commands_wait_for_no_more(log: Log, moments: list[float]) -> None:
    await log.begin(intents(MANY))
    await asyncio.gather(*[log.append([draft(number)]) for number in range(MANY)])
    assert moments == []


@pytest.mark.parametrize("outcome", [Outcome.APPLIED, Outcome.REJECTED, Outcome.NOT_APPLIED, Outcome.IN_DOUBT])
async def test_a_call_whose_outcome_is_recorded_is_not_under_way(
    log: Log, moments: list[float], outcome: Outcome
) -> None:
    """Nor is one in doubt, or a few that nobody can resolve would slow everybody down."""
    ids = await log.begin(intents(MANY))
    await log.settle([Settlement(ids[0], outcome, 1)])
    moments.clear()
    await log.append([draft(1)])
    assert moments == []


async def test_calls_are_counted_again_when_the_log_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    log = Log.open(url)
    await log.begin(intents(MANY))
    await log.close()
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    log = Log.open(url)
    await log.append([draft(1)])
    await log.close()
    assert waited
