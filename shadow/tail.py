"""The live end of the log: followers replay from the log and then go on with what is committed, without a seam.

A follower is pulled, not pushed: it keeps nothing but its position and asks for what comes after. The tail keeps the
newest entries in one ring that all followers share; whoever has fallen out of the ring reads the log again until it
has caught up. So there is no queue per follower, no gap, no repeat, and a slow follower costs nothing.
Ephemeral events live only in the ring: they are seen by those who are live, and never move a position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from shadow.events import Draft, Event, matches

ReadLog = Callable[[Sequence[str], int, int], Awaitable[list[Event]]]
"""Reads up to `limit` events of the patterns after a position: (patterns, after, limit)."""


@dataclass(slots=True, eq=False)
class Entry:
    """One thing that followers see: a stored event, or an ephemeral one that has no position."""

    sequence: int
    draft: Draft
    position: int | None
    encodings: dict[str, bytes] = field(default_factory=dict)
    """The event's encoded forms by format, made once and shared by all followers."""


class Tail:
    """The newest entries and a way to wait for more; used from the event loop only."""

    def __init__(self, read: ReadLog, head: int, *, capacity: int = 4096, page: int = 500) -> None:
        self._read = read
        self._page = page
        self._ring: deque[Entry] = deque(maxlen=capacity)
        self._next = 0
        self._head = head
        self._changed = asyncio.Event()

    @property
    def head(self) -> int:
        """The position of the newest committed event that the tail was told of."""
        return self._head

    def committed(self, events: Sequence[Event]) -> None:
        """Take note of events that were committed, in order; wakes every follower once."""
        for event in events:
            self._append(event.draft, event.position)
            self._head = event.position
        self._wake()

    def ephemeral(self, draft: Draft) -> None:
        """Show an event to those who follow now; it is stored nowhere."""
        self._append(draft, None)
        self._wake()

    def follow(self, patterns: Sequence[str], after: int) -> Follower:
        """Return a follower that will see everything of `patterns` after position `after`."""
        return Follower(self, tuple(patterns), after)

    def _append(self, draft: Draft, position: int | None) -> None:
        self._ring.append(Entry(self._next, draft, position))
        self._next += 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _since(self, sequence: int) -> list[Entry] | None:
        """Return the entries from `sequence` on, or None if some of them have left the ring."""
        missing = self._next - sequence
        if missing > len(self._ring):
            return None
        return list(islice(self._ring, len(self._ring) - missing, None))

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


class Follower:
    """One reader's place: the position of the last stored event it was given."""

    def __init__(self, tail: Tail, patterns: tuple[str, ...], after: int) -> None:
        self.position = after
        self._tail = tail
        self._patterns = patterns
        self._sequence: int | None = None

    @property
    def live(self) -> bool:
        """Tell whether the follower has caught up with the tail."""
        return self._sequence is not None

    async def next(self) -> list[Entry]:
        """Wait for what comes next and return it: one or more entries, in order, each exactly once."""
        while True:
            if self._sequence is None:
                found = await self._replay()
            else:
                changed = self._tail._changed
                found = self._live()
                if not found and self._sequence is not None:
                    await changed.wait()
            if found:
                return found

    async def _replay(self) -> list[Entry]:
        tail = self._tail
        self._sequence = tail._sequence_after(self.position)
        if self._sequence is not None:
            return []
        goal = tail.head
        events = await tail._read(self._patterns, self.position, tail._page)
        # A short page means that nothing of the patterns is left up to the head known before the read.
        full = len(events) == tail._page
        self.position = events[-1].position if full else max(goal, events[-1].position if events else 0)
        return [Entry(-1, event.draft, event.position) for event in events]

    def _live(self) -> list[Entry]:
        assert self._sequence is not None
        entries = self._tail._since(self._sequence)
        if entries is None:
            self._sequence = None
            return []
        if entries:
            self._sequence = entries[-1].sequence + 1
            self.position = max(self.position, *(entry.position or 0 for entry in entries))
        return [entry for entry in entries if any(matches(pattern, entry.draft.channel) for pattern in self._patterns)]
