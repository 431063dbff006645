"""The loop of one subscription, against a tail that commits whenever the test says and a client as slow as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from proxy.metrics import Metrics
from proxy.subscriptions.feed import Chunk, Feed, Pace, Reader
from proxy.subscriptions.shapes import SocketTracked
from proxy.subscriptions.wishes import Why, Wish
from shadow import json
from shadow.events import Cursor, Draft, Event, matches
from shadow.tail import Selection, Tail

CHANNELS = ["session:a", "session:b", "config:ai"]
HIDDEN = "session:b"


class Log:
    """A log in memory."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def commit(self, channel: str) -> Event:
        position = len(self.events) + 1
        self.events.append(Event(position, Draft(f"e{position}", channel, "said", 0, {}), ""))
        return self.events[-1]

    async def read(self, selection: Selection, after: int, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        return [event for event in self.events[after:] if selection.includes(event.draft)][:limit]

    async def latest(self, selection: Selection, count: int) -> list[Event]:
        await asyncio.sleep(0)
        return [event for event in self.events if selection.includes(event.draft)][-count:]


class Sight:
    """Sees everything but one channel; has to think about it whenever `thinks` says so, by turns."""

    everything = False

    def __init__(self, thinks: list[bool]) -> None:
        self._thinks = cycle(thinks)

    def known(self, draft: Draft) -> bool | None:
        return None if next(self._thinks) else draft.channel != HIDDEN

    async def sees(self, draft: Draft) -> bool:
        await asyncio.sleep(0)
        return draft.channel != HIDDEN


class Client:
    """An outlet that takes its time, or, by turns, what it is given at once, and breaks off after so many items."""

    def __init__(self, epoch: str, pauses: list[int], pushes: Iterator[bool], patience: int) -> None:
        self.format = SocketTracked(epoch)
        self.reader: Reader | None = None
        self.cursor: str | None = None
        self.seen: list[str] = []
        self._pauses = pauses
        self._pushes = pushes
        self._patience = patience

    def attach(self, reader: Reader) -> None:
        self.reader = reader

    async def hello(self, cursor: Cursor) -> None:
        self.cursor = self.cursor or str(cursor)

    def push(self, chunk: Chunk) -> bool:
        if not next(self._pushes):
            return False
        self._take(chunk)
        return True

    async def write(self, chunk: Chunk) -> None:
        for _ in range(self._pauses[len(self.seen) % len(self._pauses)]):
            await asyncio.sleep(0)
        self._take(chunk)

    def _take(self, chunk: Chunk) -> None:
        assert self.reader is not None
        if self._patience == 0:
            self.reader.leave()
            return
        self._patience -= 1
        item = json.decode(chunk.data)
        if item["data"]["data"]["cursor"] is None:
            assert item["id"] == self.cursor
            return
        self.cursor = item["id"]
        self.seen.append(item["data"]["data"]["id"])

    async def ping(self, cursor: Cursor) -> None:
        raise AssertionError("nobody waits for so long")

    async def reset(self, why: Why, cursor: Cursor) -> None:
        raise AssertionError(why)

    async def cut(self, cursor: Cursor) -> None:
        raise AssertionError("nobody is so slow")

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        raise AssertionError(sentence)

    async def finish(self) -> None:
        pass


async def follow(
    before: list[str],
    steps: list[tuple[str, int]],
    wanted: str,
    sessions: list[int],
    pauses: list[int],
    pushes: list[bool],
    thinks: list[bool],
    capacity: int,
) -> tuple[list[str], Log]:
    """Commit step by step while a client comes, goes and comes again; returns what it saw."""
    log = Log()
    for channel in before:
        log.commit(channel)
    tail = Tail(log.read, len(before), capacity=capacity, page=3)
    feed = Feed(tail, "abc123", Metrics(), latest=log.latest, pace=Pace(heartbeat=1e9, slow=1e9))
    seen: list[str] = []
    by_turns = cycle(pushes)

    async def client() -> None:
        cursor: str | None = f"abc123-{len(before) // 2}"
        for patience in [*sessions, -1]:
            here = Client("abc123", pauses, by_turns, patience)
            here.cursor = cursor
            assert cursor is not None
            wish = Wish((wanted,), after=Cursor.parse(cursor))
            await feed.read(wish, Sight(thinks), here, here.attach)
            cursor = here.cursor
            seen.extend(here.seen)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(client())
        for channel, turns in steps:
            for _ in range(turns):
                await asyncio.sleep(0)
            if channel == "ephemeral":
                tail.ephemeral(Draft("x", "session:a", "delta", 0, {}))
            else:
                tail.committed([log.commit(channel)])
        for _ in range(40 * (len(log.events) + len(steps)) + 100):
            await asyncio.sleep(0)
        await feed.close()
        for _ in range(100):
            await asyncio.sleep(0)
        reading.cancel()
    return seen, log


@given(
    before=st.lists(st.sampled_from(CHANNELS), max_size=8),
    steps=st.lists(st.tuples(st.sampled_from([*CHANNELS, "ephemeral"]), st.integers(0, 5)), max_size=20),
    wanted=st.sampled_from(["*", "session:*", "session:a", "config:*"]),
    sessions=st.lists(st.integers(0, 4), max_size=4),
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    pushes=st.lists(st.booleans(), min_size=1, max_size=4),
    thinks=st.lists(st.booleans(), min_size=1, max_size=4),
    capacity=st.integers(1, 8),
)
def test_a_client_that_comes_and_goes_sees_each_visible_event_once_in_order(
    before: list[str],
    steps: list[tuple[str, int]],
    wanted: str,
    sessions: list[int],
    pauses: list[int],
    pushes: list[bool],
    thinks: list[bool],
    capacity: int,
) -> None:
    """Whenever events come, by whichever of the two ways, however small the ring, wherever the client breaks off."""
    seen, log = asyncio.run(follow(before, steps, wanted, sessions, pauses, pushes, thinks, capacity))

    expected = [
        event.draft.id
        for event in log.events
        if event.position > len(before) // 2 and matches(wanted, event.draft.channel) and event.draft.channel != HIDDEN
    ]
    assert seen == expected
