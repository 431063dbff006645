"""What subscriptions ask of a log; the same on both databases."""

from __future__ import annotations

import asyncio

import pytest

from shadow.errors import PositionConflict
from shadow.events import Draft
from shadow.log import Log


def event(number: int, channel: str, kind: str = "said") -> Draft:
    return Draft(f"e{number}", channel, kind, number, {"n": number})


CHANNELS = ["session:a", "session:b", "config:ai", "session:a", "config:rules"]


@pytest.fixture(name="log")
async def _filled(log: Log) -> Log:
    await log.append([event(number, channel) for number, channel in enumerate(CHANNELS, 1)])
    return log


@pytest.mark.parametrize(
    ("patterns", "count", "positions"),
    [
        (["*"], 2, [4, 5]),
        (["session:*"], 2, [2, 4]),
        (["session:a"], 9, [1, 4]),
        (["config:*", "session:b"], 2, [3, 5]),
        (["none"], 3, []),
    ],
)
def test_the_last_events_of_some_channels_come_oldest_first(
    log: Log, patterns: list[str], count: int, positions: list[int]
) -> None:
    assert [each.position for each in log.latest(patterns, count)] == positions


async def test_the_last_events_of_a_type_are_found_behind_many_others(log: Log) -> None:
    await log.append([event(10, "session:a", "rare"), *(event(number, "session:a") for number in range(11, 2500))])

    assert [each.position for each in log.latest(["session:*"], 1, ["rare"])] == [6]


def test_a_channel_knows_how_many_events_it_has_and_a_position_its_channel(log: Log) -> None:
    assert (log.count("session:a"), log.count("none")) == (2, 0)
    assert log.channels_of([2, 3, 99]) == {2: "session:b", 3: "config:ai"}


async def test_an_event_is_appended_only_if_its_channel_has_not_moved(log: Log) -> None:
    with pytest.raises(PositionConflict) as late:
        await log.append([event(20, "session:a")], unmoved={"session:a": 3})
    (appended,) = await log.append([event(21, "session:a")], unmoved={"session:a": 5})

    assert late.value.actual == 4
    assert appended.position == 6


async def test_of_two_who_expect_the_same_one_comes_first(log: Log) -> None:
    results = await asyncio.gather(
        *(log.append([event(number, "config:ai")], unmoved={"config:ai": 3}) for number in (30, 31)),
        return_exceptions=True,
    )

    conflicts = [each for each in results if isinstance(each, PositionConflict)]
    assert [conflict.actual for conflict in conflicts] == [6]
    assert log.head.position == 6
