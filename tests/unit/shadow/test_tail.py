"""Replay and live meet without a gap and without a repeat, at whatever moment a follower looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shadow.events import Draft, Event, matches
from shadow.tail import Tail

CHANNELS = ["session:a", "session:b", "config:ai"]


def draft(channel: str, name: str) -> Draft:
    return Draft(id=name, channel=channel, type="said", time=0, data={})


class Log:
    """A log in memory: what is committed can be read, whether or not the tail was told already."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def commit(self, channel: str) -> Event:
        position = len(self.events) + 1
        event = Event(position, draft(channel, f"e{position}"), "")
        self.events.append(event)
        return event

    async def read(self, patterns: Sequence[str], after: int, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        found = [e for e in self.events[after:] if any(matches(p, e.draft.channel) for p in patterns)]
        return found[:limit]


async def everything(log: Log, tail: Tail, patterns: list[str], after: int, writes: list[list[str]]) -> list[int]:
    """Follow from `after` while `writes` are committed in bursts; returns the positions seen."""
    seen: list[int] = []
    follower = tail.follow(patterns, after)

    async def reader() -> None:
        while True:
            seen.extend(entry.position for entry in await follower.next() if entry.position is not None)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader())
        for burst in writes:
            tail.committed([log.commit(channel) for channel in burst])
            await asyncio.sleep(0)
        for _ in range(3 * len(log.events) + 20):
            await asyncio.sleep(0)
        reading.cancel()
    return seen


@given(
    before=st.lists(st.sampled_from(CHANNELS), max_size=12),
    writes=st.lists(st.lists(st.sampled_from(CHANNELS), max_size=5), max_size=8),
    pattern=st.sampled_from(["*", "session:*", "session:a", "config:*", "none:*"]),
    after=st.integers(0, 12),
    capacity=st.integers(1, 6),
    page=st.integers(1, 4),
)
def test_a_follower_sees_every_matching_event_once_in_order(
    before: list[str], writes: list[list[str]], pattern: str, after: int, capacity: int, page: int
) -> None:
    """Whatever was there before, however small the ring, in whatever bursts events come."""
    log = Log()
    for channel in before:
        log.commit(channel)
    after = min(after, len(before))
    tail = Tail(log.read, head=len(before), capacity=capacity, page=page)

    seen = asyncio.run(everything(log, tail, [pattern], after, writes))

    assert seen == [e.position for e in log.events if e.position > after and matches(pattern, e.draft.channel)]


async def test_an_ephemeral_event_reaches_who_is_live_and_moves_no_position() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    follower = tail.follow(["session:*"], 0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(follower.next())
        await asyncio.sleep(0)
        tail.ephemeral(draft("session:a", "delta"))
        (entry,) = await waiting

    assert (entry.draft.id, entry.position, follower.position) == ("delta", None, 0)


async def test_followers_share_one_entry_and_so_one_encoding() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    one, two = tail.follow(["*"], 0), tail.follow(["session:*"], 0)
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(one.next()), group.create_task(two.next())
        await asyncio.sleep(0)
        tail.committed([log.commit("session:a")])

    assert first.result()[0] is second.result()[0]
