"""The live end of the log: followers replay from the log and then go on with what is committed, without a seam.

A follower is pulled, not pushed: it keeps nothing but its place and asks for what comes after. The tail keeps the
newest entries in one ring that all followers share; whoever has fallen out of the ring reads the log again until it
has caught up. So there is no queue per follower, no gap, no repeat, and a slow follower costs nothing.

Followers of the same channels at the same place get the same `Batch`, so that what is made of it (its encoding for
the wire) is made once for all of them. A follower that waits is woken only by what it asked for: a commit costs as
much as there are followers of its channels, not as there are followers.

Waking a coroutine costs as much as all that is done for its client. So whoever waits may leave a function that takes
what comes at once; the coroutine sleeps on, and is woken only for what that function does not take.

Ephemeral events live only in the ring: they are seen by those who are live, and never move a position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeAlias

import msgspec
import structlog

from shadow.events import RETENTION, Draft, Event, matches
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)

ReadLog: TypeAlias = Callable[["Selection", int, int], Awaitable[list[Event]]]
"""Reads up to `limit` events of a selection after a position: (selection, after, limit)."""

Taker: TypeAlias = Callable[["Batch"], bool]
"""Takes a batch without waiting; False if that cannot be, and then nothing of it was taken."""

MOST_READS = 4
"""Pages of the log that are read at once, so that a storm of followers leaves threads for everybody else."""

LARGEST_BATCH = 256
"""Entries that a follower is given at once."""

MOST_BATCHES = 128
"""Batches that are kept for others to share, until the next entry comes."""

MOST_SERVED = 32
"""Waiting followers that are served in one turn of the loop: neither they nor whoever committed keep others waiting."""


class Selection(msgspec.Struct, frozen=True):
    """What a follower wants to see: channels by patterns, and of these the types named, or all types if None."""

    patterns: tuple[str, ...]
    types: frozenset[str] | None = None

    def includes(self, draft: Draft) -> bool:
        """Tell whether an event is wanted."""
        if self.types is not None and draft.type not in self.types:
            return False
        for pattern in self.patterns:  # noqa: SIM110 - asked for every event; a generator costs more than the answer
            if matches(pattern, draft.channel):
                return True
        return False


@dataclass(slots=True, eq=False)
class Entry:
    """One thing that followers see: a stored event, or an ephemeral one that has no position."""

    sequence: int
    draft: Draft
    position: int | None
    encodings: dict[str, bytes] = field(default_factory=dict)
    """The event's encoded forms by format, made once and shared by all followers."""


@dataclass(slots=True, eq=False)
class Batch:
    """Entries in order, shared by all followers that are at the same place and want the same.

    `position` is that of the last stored event up to the batch's end, wanted or not: whoever has the batch has seen
    everything up to there.
    """

    entries: tuple[Entry, ...]
    position: int
    sequence: int | None
    """The ring's place after the batch; None when it was read from the log."""
    dropped: int = 0
    """Position of the last wanted event in the batch's reach that is kept no longer; 0 if all of them are kept."""
    encodings: dict[str, object] = field(default_factory=dict)
    """What was made of the whole batch by format, made once and shared by all followers."""

    def of(self, entries: Sequence[Entry]) -> Batch:
        """Return the batch with only these of its entries; the batch itself if these are all."""
        return self if len(entries) == len(self.entries) else Batch(tuple(entries), self.position, self.sequence)


class Tail:
    """The newest entries and a way to wait for more; used from the event loop only."""

    def __init__(self, read: ReadLog, head: int, *, capacity: int = 4096, page: int = LARGEST_BATCH) -> None:
        self._read = read
        self._limit = page
        self._ring: deque[Entry] = deque(maxlen=capacity)
        self._next = 0
        self._head = head
        self._waiting: dict[str, set[_Waiter]] = {}
        self._owed: deque[_Waiter] = deque()
        self._serving = False
        self._batches: dict[tuple[int, Selection], Batch] = {}
        self._reads: dict[tuple[int, Selection], asyncio.Task[Batch]] = {}
        self._tasks = Tasks()
        self._turns = asyncio.Semaphore(MOST_READS)

    @property
    def head(self) -> int:
        """The position of the newest committed event that the tail was told of."""
        return self._head

    def committed(self, events: Sequence[Event]) -> None:
        """Take note of events that were committed, in order, and give them to those who wait for their channels.

        The first of these have them when this returns, the others in the turns of the loop that follow.
        """
        place = _Place(self._next, self._head)
        for event in events:
            self._append(event.draft, event.position)
            self._head = event.position
        if self._waiting:
            self._wake(place, {event.draft.channel for event in events})

    def ephemeral(self, draft: Draft) -> None:
        """Show an event to those who follow now; it is stored nowhere."""
        place = _Place(self._next, self._head)
        self._append(draft, None)
        self._wake(place, {draft.channel})

    def follow(
        self, patterns: Sequence[str], after: int, types: Iterable[str] | None = None, taker: Taker | None = None
    ) -> Follower:
        """Return a follower that will see everything of `patterns` (and `types`) after position `after`.

        While it waits at the live end, what comes is offered to `taker`, in order with what it takes itself.
        """
        selection = Selection(tuple(patterns), None if types is None else frozenset(types))
        return Follower(self, selection, after, taker)

    def _append(self, draft: Draft, position: int | None) -> None:
        self._batches.clear()
        self._ring.append(Entry(self._next, draft, position))
        self._next += 1

    def _wake(self, place: _Place, channels: set[str]) -> None:
        """Serve those who wait for one of `channels`; nothing before `place` was for them."""
        for pattern, waiters in self._waiting.items():
            named = (
                pattern in channels
                if not pattern.endswith("*")
                else any(channel.startswith(pattern[:-1]) for channel in channels)
            )
            if named:
                self._owed.extend([waiter for waiter in waiters if waiter.owe(place)])
        if not self._serving:
            self._serve()

    def _serve(self) -> None:
        """Serve the next of those who are owed something, and see to it that the rest has its turn."""
        try:
            for _ in range(min(len(self._owed), MOST_SERVED)):
                waiter = self._owed.popleft()
                place = waiter.place
                if place is None or waiter.future.done():
                    continue
                # Either it takes what it is owed, or its waiting ends and it goes on from the place that is noted.
                if waiter.takes(place):
                    waiter.place = None
                else:
                    waiter.future.set_result(None)
        finally:
            self._serving = bool(self._owed)
            if self._serving:
                asyncio.get_running_loop().call_soon(self._serve)

    def _enter(self, waiter: _Waiter) -> None:
        for pattern in waiter.patterns:
            self._waiting.setdefault(pattern, set()).add(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        for pattern in waiter.patterns:
            waiters = self._waiting.get(pattern)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._waiting[pattern]

    def _since(self, sequence: int, selection: Selection) -> Batch | None:
        """Return what is wanted from the ring's place `sequence` on, or None if some of it has left the ring."""
        found = self._batches.get((sequence, selection))
        if found is not None:
            return found
        missing = self._next - sequence
        if missing > len(self._ring):
            return None
        entries = self._slice(missing)
        wanted = tuple([entry for entry in entries if selection.includes(entry.draft)])
        reached = self._head
        if len(entries) < missing:
            reached = next((entry.position for entry in reversed(entries) if entry.position is not None), 0)
        batch = Batch(wanted, reached, sequence + len(entries))
        if len(self._batches) >= MOST_BATCHES:
            self._batches.clear()
        self._batches[sequence, selection] = batch
        return batch

    def _slice(self, missing: int) -> list[Entry]:
        """Return the first of the `missing` newest entries, as many as a batch may hold."""
        ring = self._ring
        if missing <= 64:
            # The ring is a deque: its end is near for an index and far for an iterator.
            return [ring[place] for place in range(-missing, 0)]
        first = len(ring) - missing
        return list(islice(ring, first, first + LARGEST_BATCH))

    def _sequence_after(self, position: int) -> int | None:
        """Return where in the ring the entries after `position` begin, or None if the ring does not reach back."""
        if position >= self._head:
            return self._next
        found = None
        for entry in reversed(self._ring):
            if entry.position is not None:
                if entry.position <= position:
                    return found
                found = entry.sequence
                if entry.position == position + 1:
                    return found
        return None

    async def _page(self, after: int, selection: Selection) -> Batch:
        """Read a page of the log; followers who want the same page at the same time share one read."""
        wanted = (after, selection)
        running = self._reads.get(wanted)
        if running is None:
            running = self._tasks.spawn(self._page_after(after, selection), name="read-page")
            self._reads[wanted] = running
            running.add_done_callback(lambda _: self._reads.pop(wanted, None))
        return await asyncio.shield(running)

    async def _page_after(self, after: int, selection: Selection) -> Batch:
        async with self._turns:
            goal = self._head
            events = await self._read(selection, after, self._limit)
        # The log may be ahead of what the tail was told: what comes after the head comes again through the ring.
        told = [event for event in events if event.position <= self._head]
        last = told[-1].position if told else after
        # A short page means that nothing of the selection is left up to the head known before the read.
        full = len(told) == self._limit
        position = last if full else max(goal, last)
        kept = tuple(Entry(-1, event.draft, event.position) for event in told if event.draft.cause != RETENTION)
        dropped = max((event.position for event in told if event.draft.cause == RETENTION), default=0)
        return Batch(kept, position, None, dropped)


class _Place(NamedTuple):
    """A place in the ring, and the position of the last stored event before it."""

    sequence: int
    position: int


class _Waiter:
    """A follower that waits, and the first place of the ring that may hold something it was not given."""

    __slots__ = ("future", "patterns", "place", "takes")

    def __init__(
        self, patterns: tuple[str, ...], takes: Callable[[_Place], bool], future: asyncio.Future[None]
    ) -> None:
        self.patterns = patterns
        self.takes = takes
        self.future = future
        self.place: _Place | None = None

    def owe(self, place: _Place) -> bool:
        """Note that there may be something from `place` on; False if it was owed something before."""
        if self.place is None:
            self.place = place
            return True
        return False

    def wake(self) -> None:
        """End the waiting."""
        if not self.future.done():
            self.future.set_result(None)


class Follower:
    """One reader's place: everything of its selection up to `position` was given to it."""

    __slots__ = ("_nudged", "_selection", "_sequence", "_tail", "_taker", "_waiter", "position")

    def __init__(self, tail: Tail, selection: Selection, after: int, taker: Taker | None) -> None:
        self.position = after
        self._taker = taker
        self._tail = tail
        self._selection = selection
        self._sequence: int | None = None
        self._waiter: _Waiter | None = None
        self._nudged = False

    @property
    def live(self) -> bool:
        """Tell whether the follower has caught up with the ring."""
        return self._sequence is not None

    @property
    def waits_next(self) -> bool:
        """Tell whether there is nothing to take just now."""
        return not self._nudged and self._sequence == self._tail._next

    def names(self, channel: str) -> bool:
        """Tell whether one of the follower's patterns names a channel."""
        return any(matches(pattern, channel) for pattern in self._selection.patterns)

    async def next(self) -> list[Entry]:
        """Wait for what comes next and return it: one or more entries, in order, each exactly once."""
        while True:
            batch = await self.take()
            if batch.entries:
                return list(batch.entries)
            await self.wait()

    async def take(self) -> Batch:
        """Return what comes next, which may be nothing; reads the log when the ring does not reach back."""
        while True:
            if self._sequence is None:
                self._sequence = self._tail._sequence_after(self.position)
            if self._sequence is not None:
                batch = self._tail._since(self._sequence, self._selection)
                self._sequence = None if batch is None else batch.sequence
            else:
                batch = await self._tail._page(self.position, self._selection)
            if batch is not None:
                self.position = max(self.position, batch.position)
                if batch.entries or batch.dropped or self._sequence == self._tail._next:
                    return batch

    async def wait(self) -> None:
        """Wait until there may be something to take that the taker did not take, or until `nudge`."""
        if self._nudged or self._sequence is None or self._sequence != self._tail._next:
            self._nudged = False
            return
        waiter = _Waiter(self._selection.patterns, self._takes, asyncio.get_running_loop().create_future())
        self._waiter = waiter
        self._tail._enter(waiter)
        try:
            await waiter.future
        finally:
            self._waiter = None
            self._nudged = False
            self._tail._leave(waiter)
        # Nothing before the place was for this follower, so it need not be in the ring any more.
        place = waiter.place or _Place(self._tail._next, self._tail._head)
        self._sequence = place.sequence
        self.position = max(self.position, place.position)

    def nudge(self) -> None:
        """End a running `wait`, or else the next one."""
        self._nudged = True
        if self._waiter is not None:
            self._waiter.wake()

    def _takes(self, place: _Place) -> bool:
        """Let the taker take all that there is from `place` on, while the follower waits."""
        batch = self._tail._since(place.sequence, self._selection)
        if batch is None or batch.sequence != self._tail._next:
            return False
        if batch.entries:
            try:
                if self._taker is None or not self._taker(batch):
                    return False
            except Exception as error:  # noqa: BLE001 - it shows again where the follower takes the batch itself
                logger.warning("follower_failed", error=type(error).__name__)
                return False
        self._sequence = batch.sequence
        self.position = max(self.position, batch.position)
        return True
