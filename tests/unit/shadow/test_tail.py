"""A follower misses nothing and sees nothing twice, at whatever moment it looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle

from hypothesis import given
from hypothesis import strategies as st

from shadow.events import Draft, Event, matches
from shadow.tail import LARGEST_BATCH, MOST_SERVED, Batch, Follower, Selection, Tail

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

    async def read(self, selection: Selection, after: int, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        found = [event for event in self.events[after:] if selection.includes(event.draft)][:limit]
        await asyncio.sleep(0)
        return found


def positions(batch: Batch) -> list[int]:
    return [entry.position for entry in batch.entries if entry.position is not None]


async def everything(
    log: Log, tail: Tail, patterns: list[str], after: int, writes: list[list[str]], late: int, takes: list[bool]
) -> list[int]:
    """Follow from `after` while `writes` are committed in bursts; returns the positions seen.

    The tail is told `late` turns of the loop after the commit, as by a writer in a thread of its own. What is offered
    to the follower at once is taken as `takes` says by turns.
    """
    seen: list[int] = []
    turns = cycle(takes)

    def taker(batch: Batch) -> bool:
        taken = next(turns)
        seen.extend(positions(batch) if taken else ())
        return taken

    follower = tail.follow(patterns, after, taker=taker)

    async def reader() -> None:
        while True:
            seen.extend(entry.position for entry in await follower.next() if entry.position is not None)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(reader())
        for burst in writes:
            events = [log.commit(channel) for channel in burst]
            for _ in range(late):
                await asyncio.sleep(0)
            tail.committed(events)
            await asyncio.sleep(0)
        for _ in range(8 * len(log.events) + 40):
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
    late=st.integers(0, 12),
    takes=st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_a_follower_sees_every_matching_event_once_in_order(
    before: list[str],
    writes: list[list[str]],
    pattern: str,
    after: int,
    capacity: int,
    page: int,
    late: int,
    takes: list[bool],
) -> None:
    """Whatever was there before, however small the ring, in whatever bursts events come, taken at once or not."""
    log = Log()
    for channel in before:
        log.commit(channel)
    after = min(after, len(before))
    tail = Tail(log.read, head=len(before), capacity=capacity, page=page)

    seen = asyncio.run(everything(log, tail, [pattern], after, writes, late, takes))

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


async def test_a_waiting_follower_is_woken_only_by_its_own_channels_and_keeps_its_place_meanwhile() -> None:
    log = Log()
    tail = Tail(log.read, head=0, capacity=2)
    follower = tail.follow(["session:a"], 0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(follower.next())
        await asyncio.sleep(0)
        for _ in range(5):  # more than the ring holds
            tail.committed([log.commit("config:ai")])
            await asyncio.sleep(0)
        assert not waiting.done()
        tail.committed([log.commit("session:a")])
        (entry,) = await waiting

    assert (entry.position, follower.position) == (6, 6)


async def test_a_nudge_ends_a_wait_and_tells_how_far_the_follower_is() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    follower = tail.follow(["session:a"], 0)
    await follower.take()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(follower.wait())
        await asyncio.sleep(0)
        tail.committed([log.commit("config:ai")])
        follower.nudge()
        await waiting

    assert follower.position == 1


async def test_only_the_types_asked_for_are_seen() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    follower = tail.follow(["*"], 0, types={"heard"})
    tail.committed([log.commit("session:a")])

    assert (await follower.take()).entries == ()


async def test_followers_of_the_same_place_share_one_read_of_the_log() -> None:
    log = Log()
    for _ in range(4):
        log.commit("session:a")
    reads = 0

    async def counted(selection: Selection, after: int, limit: int) -> list[Event]:
        nonlocal reads
        reads += 1
        return await log.read(selection, after, limit)

    tail = Tail(counted, head=4)
    followers = [tail.follow(["session:*"], 0) for _ in range(50)]
    pages = await asyncio.gather(*(follower.next() for follower in followers))

    assert reads == 1
    assert all(page[0] is pages[0][0] for page in pages)


async def test_followers_share_one_entry_and_so_one_encoding() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    one, two = tail.follow(["*"], 0), tail.follow(["session:*"], 0)
    async with asyncio.TaskGroup() as group:
        first, second = group.create_task(one.next()), group.create_task(two.next())
        await asyncio.sleep(0)
        tail.committed([log.commit("session:a")])

    assert first.result()[0] is second.result()[0]


class Waiting:
    """Followers that wait at the live end, what each of them took at once, and which of them had to be woken.

    Those who are `broken` cannot take anything at once.
    """

    def __init__(self, tail: Tail, count: int) -> None:
        self.taken: list[list[list[int]]] = [[] for _ in range(count)]
        self.woken: set[int] = set()
        self.broken: set[int] = set()
        self.followers: list[Follower] = [
            tail.follow(["session:*"], tail.head, taker=self._taker(number)) for number in range(count)
        ]

    @property
    def served(self) -> int:
        return sum(map(bool, self.taken))

    async def wait(self, number: int) -> None:
        await self.followers[number].take()
        await self.followers[number].wait()
        self.woken.add(number)

    def _taker(self, number: int) -> Callable[[Batch], bool]:
        def taker(batch: Batch) -> bool:
            if number in self.broken:
                raise OSError("this one cannot take anything")
            self.taken[number].append(positions(batch))
            return True

        return taker


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_first_who_wait_are_served_by_the_commit_itself_and_the_rest_lets_others_have_their_turn() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    all_of_them = Waiting(tail, 3 * MOST_SERVED)
    served: list[int] = []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_of_them.wait(number)) for number in range(3 * MOST_SERVED)]
        await turns(2)
        tail.committed([log.commit("session:a")])
        for _ in range(3):
            served.append(all_of_them.served)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    assert served == [MOST_SERVED, 2 * MOST_SERVED, 3 * MOST_SERVED]
    assert all_of_them.woken == set()


async def test_who_is_not_served_yet_when_more_comes_gets_all_of_it_at_once() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    all_of_them = Waiting(tail, 2 * MOST_SERVED)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_of_them.wait(number)) for number in range(2 * MOST_SERVED)]
        await turns(2)
        tail.committed([log.commit("session:a")])
        tail.committed([log.commit("session:b")])
        await turns(4)
        for task in tasks:
            task.cancel()

    assert sorted(all_of_them.taken) == [[[1], [2]]] * MOST_SERVED + [[[1, 2]]] * MOST_SERVED


async def test_who_stops_waiting_before_its_turn_misses_nothing() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    all_of_them = Waiting(tail, 2 * MOST_SERVED)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_of_them.wait(number)) for number in range(2 * MOST_SERVED)]
        await turns(2)
        tail.committed([log.commit("session:a")])
        late = [number for number, taken in enumerate(all_of_them.taken) if not taken]
        for number in late:
            all_of_them.followers[number].nudge()
        await turns(3)
        batches = [await all_of_them.followers[number].take() for number in late]
        for task in tasks:
            task.cancel()

    assert all_of_them.woken == set(late)
    assert all_of_them.served == MOST_SERVED
    assert list(map(positions, batches)) == [[1]] * MOST_SERVED


async def test_an_error_at_one_who_takes_keeps_nothing_from_the_others_nor_from_itself() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    both = Waiting(tail, 2)
    both.broken = {0}
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(both.wait(number)) for number in range(2)]
        await turns(2)
        tail.committed([log.commit("session:a")])
        await turns(2)
        batch = await both.followers[0].take()
        for task in tasks:
            task.cancel()

    assert both.taken == [[], [[1]]]
    assert both.woken == {0}
    assert positions(batch) == [1]


async def test_who_has_two_patterns_for_one_channel_is_given_its_event_once() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    taken: list[list[int]] = []

    def taker(batch: Batch) -> bool:
        taken.append(positions(batch))
        return True

    follower = tail.follow(["session:*", "session:a", "*"], 0, taker=taker)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(follower.wait())
        await follower.take()
        await asyncio.sleep(0)
        tail.committed([log.commit("session:a"), log.commit("config:ai")])
        tail.committed([log.commit("session:b")])
        waiting.cancel()

    assert taken == [[1, 2], [3]]
    assert follower.position == 3


async def test_more_than_is_given_at_once_is_taken_by_whoever_waited_piece_by_piece() -> None:
    log = Log()
    tail = Tail(log.read, head=0)
    one = Waiting(tail, 1)
    rest: list[int] = []
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(one.wait(0))
        await turns(2)
        tail.committed([log.commit("session:a") for _ in range(LARGEST_BATCH + 10)])
        await waiting
        while not one.followers[0].waits_next:
            rest += positions(await one.followers[0].take())

    assert [position for batch in one.taken[0] for position in batch] + rest == list(range(1, LARGEST_BATCH + 11))
