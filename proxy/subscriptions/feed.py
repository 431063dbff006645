"""One subscriber after another, all fed from one tail.

A `Reader` is the loop of one subscription: take what comes next, leave out what the subscriber may not see, hand it to
the outlet, wait. It runs in the task that its connection has anyway and makes no other. What many readers get at the
same place is encoded once for all of them (`chunks`).

A reader that waits at the live end has its loop asleep, and what comes is pushed past it in a plain call, as long as
nothing has to be waited for: neither its client nor the answer to what it may see. Else the loop wakes and goes on from
the same place.

Memory per reader is bounded: an outlet's `write` waits while its client does not keep up, and a reader that waits for
too long is cut off with the cursor to come back with. One clock looks at all readers, instead of a timer for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.metrics import Metrics
from proxy.subscriptions.shapes import Format, written
from proxy.subscriptions.wishes import After, Last, Reset, Why, Wish, begin
from shadow.events import Cursor, Draft, Event
from shadow.tail import Batch, Entry, Follower, Selection, Tail
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)

LARGEST_CHUNK = 64 * 1024
"""Bytes that leave as one piece, unless a single event is larger."""


class Unavailable(Exception):
    """What the subscriber asked for cannot be had just now; the client may come back and go on from its cursor."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of a feed, in seconds."""

    heartbeat: float = 15.0
    """Silence after which a ping shows that the connection lives."""
    slow: float = 30.0
    """How long a client may take nothing before it is cut off."""
    look: float = 1.0
    """How often the readers are looked at for the two above."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece for an outlet; `last` is the cursor of the last stored event up to its end."""

    data: bytes
    last: Cursor


class Outlet(Protocol):
    """Where a reader's events go: one client, over one transport. Only `cut` may go past what is still waiting."""

    @property
    def format(self) -> Format:
        """How events are written for this client."""

    async def hello(self, cursor: Cursor) -> None:
        """Say where the subscription begins."""

    def push(self, chunk: Chunk) -> bool:
        """Write events at once; False, and nothing is written, where `write` might have to wait."""

    async def write(self, chunk: Chunk) -> None:
        """Write events; waits while the client does not keep up."""

    async def ping(self, cursor: Cursor) -> None:
        """Show that the connection lives; everything up to `cursor` was given."""

    async def reset(self, why: Why, cursor: Cursor) -> None:
        """Say that the client has to load the state again, and that it goes on from `cursor`."""

    async def cut(self, cursor: Cursor) -> None:
        """Say that the client is too slow, and with what to come back; nothing follows, and this never waits."""

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        """Say that the subscription ends for now, and that the client should come back; nothing follows."""

    async def finish(self) -> None:
        """End so that the client comes back: the proxy stops."""


class Sight(Protocol):
    """What one subscriber may see."""

    @property
    def everything(self) -> bool:
        """Whether there is nothing that it may not see."""

    def known(self, draft: Draft) -> bool | None:
        """Tell whether it may see an event; None when that has to be found out by `sees`."""

    async def sees(self, draft: Draft) -> bool:
        """Tell whether it may see an event; raises `Unavailable` when that cannot be found out now."""


class Feed:
    """All subscriptions of one log. Use it from one event loop; `start` it, and `close` it before the server stops."""

    def __init__(
        self,
        tail: Tail,
        epoch: str,
        metrics: Metrics,
        *,
        latest: Callable[[Selection, int], Awaitable[list[Event]]],
        pace: Pace | None = None,
    ) -> None:
        """`latest` returns the last events of a selection that are kept, oldest first."""
        self.tail = tail
        self.epoch = epoch
        self.metrics = metrics
        self.pace = pace or Pace()
        self.closing = False
        self._latest = latest
        self._readers: set[Reader] = set()
        self._tasks = Tasks()

    @property
    def head(self) -> Cursor:
        """The cursor of the newest event."""
        return Cursor(self.epoch, self.tail.head)

    @property
    def readers(self) -> int:
        """How many subscriptions there are."""
        return len(self._readers)

    def followers_of(self, channel: str) -> int:
        """Return how many subscriptions name a channel."""
        return sum(reader.names(channel) for reader in self._readers)

    def start(self) -> None:
        """Begin to look at the readers' times."""
        self._tasks.spawn(self._watch(), name="feed")

    async def close(self) -> None:
        """Give every reader what is there, then end it in such a way that its client comes back."""
        self.closing = True
        for reader in tuple(self._readers):
            reader.nudge()
        await self._tasks.cancel()

    async def read(self, wish: Wish, sight: Sight, outlet: Outlet, attach: Callable[[Reader], None]) -> None:
        """Serve one subscription until its client leaves, is too slow, or the feed closes.

        `attach` is given the reader, whose `leave` is to be called when the client has gone.
        """
        reader = Reader(self, outlet, sight)
        attach(reader)
        beginning = begin(wish, self.head)
        try:
            # Who asks for the last events there are does not ask for those that are kept no longer.
            forgiven = self.tail.head if isinstance(beginning, Last) else 0
            await reader.run(wish, await self._place(wish, beginning), forgiven)
        except Unavailable as error:
            await outlet.unavailable(str(error), reader.cursor)

    async def _place(self, wish: Wish, beginning: After | Last | Reset) -> After | Reset:
        """Find the position that `Last` means."""
        if not isinstance(beginning, Last):
            return beginning
        head = self.tail.head
        events = await self._latest(Selection(wish.patterns, wish.types), beginning.count)
        return After(min(events[0].position - 1, head) if events else head)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.pace.look)
            now = loop.time()
            for reader in tuple(self._readers):
                reader.look(now)

    def _enter(self, reader: Reader) -> None:
        self._readers.add(reader)
        self.metrics.readers.inc()

    def _leave(self, reader: Reader) -> None:
        self._readers.discard(reader)
        self.metrics.readers.dec()


class Reader:
    """One subscription."""

    __slots__ = (
        "_blocked",
        "_feed",
        "_follower",
        "_forgiven",
        "_gone",
        "_last",
        "_now",
        "_outlet",
        "_quiet",
        "_sight",
        "_slow",
        "_task",
        "_wish",
    )

    def __init__(self, feed: Feed, outlet: Outlet, sight: Sight) -> None:
        self._feed = feed
        self._outlet = outlet
        self._sight = sight
        self._follower: Follower | None = None
        self._last = feed.head
        self._wish = Wish(())
        self._forgiven = 0
        self._task: asyncio.Task[object] | None = None
        self._now = asyncio.get_running_loop().time
        self._quiet = 0.0
        self._blocked: float | None = None
        self._slow = False
        self._gone = False

    @property
    def cursor(self) -> Cursor:
        """Where the client should go on: everything up to here was handed to its connection."""
        return self._last

    def names(self, channel: str) -> bool:
        """Tell whether the subscription names a channel."""
        return self._follower is not None and self._follower.names(channel)

    def leave(self) -> None:
        """The client has gone."""
        self._gone = True
        self.nudge()

    def nudge(self) -> None:
        """Let the reader look again at what it should do."""
        if self._follower is not None:
            self._follower.nudge()

    def look(self, now: float) -> None:
        """See whether a ping is due, or the client is too slow."""
        pace = self._feed.pace
        if self._blocked is not None:
            if now - self._blocked >= pace.slow and self._task is not None and not self._slow:
                self._slow = True
                self._task.cancel()
        elif now - self._quiet >= pace.heartbeat:
            self.nudge()

    async def run(self, wish: Wish, beginning: After | Reset, forgiven: int = 0) -> None:
        """Read from the beginning until there is a reason to stop.

        Up to position `forgiven` it does not matter that events are kept no longer.
        """
        feed = self._feed
        self._wish = wish
        self._forgiven = forgiven
        self._start(beginning.position if isinstance(beginning, After) else feed.tail.head)
        self._task = asyncio.current_task()
        feed._enter(self)
        try:
            await self._greet(beginning)
            await self._deliver()
        except asyncio.CancelledError:
            if not self._slow or self._task is None or self._task.uncancel() > 0:
                raise
            logger.info("reader_cut_off", cursor=str(self._last))
            await self._outlet.cut(self._last)
        finally:
            self._task = None
            feed._leave(self)

    def _start(self, position: int) -> Follower:
        feed = self._feed
        self._last = Cursor(feed.epoch, position)
        self._follower = feed.tail.follow(self._wish.patterns, position, self._wish.types, self._push)
        return self._follower

    async def _greet(self, beginning: After | Reset) -> None:
        self._begin_write()
        await self._outlet.hello(self._last)
        if isinstance(beginning, Reset):
            await self._outlet.reset(beginning.why, self._last)
        self._end_write()

    async def _deliver(self) -> None:
        follower = self._follower
        assert follower is not None
        while not self._gone:
            batch = await self._take(follower)
            if batch.dropped > self._forgiven:
                follower = self._start(self._feed.tail.head)
                self._begin_write()
                await self._outlet.reset(Why.DROPPED, self._last)
                self._end_write()
                continue
            if batch.entries:
                await self._give(batch)
                if not follower.waits_next:
                    continue
            if self._feed.closing:
                await self._outlet.finish()
                return
            if self._ping_due():
                self._begin_write()
                await self._outlet.ping(Cursor(self._feed.epoch, follower.position))
                self._end_write()
            await follower.wait()

    async def _take(self, follower: Follower) -> Batch:
        try:
            return await follower.take()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.warning("log_unreadable", error=type(error).__name__)
            raise Unavailable("the event log cannot be read just now") from error

    def _push(self, batch: Batch) -> bool:
        """Give a batch to the client in one write, at once; False, and nothing is given, where that cannot be."""
        visible = self._known(batch)
        if visible is None:
            return False
        if visible.entries:
            found = chunks(visible, self._outlet.format, self._last)
            if len(found) > 1 or not self._outlet.push(found[0]):
                return False
            self._last = found[0].last
            self._quiet = self._now()
        return True

    async def _give(self, batch: Batch) -> None:
        visible = self._known(batch)
        if visible is None:
            visible = batch.of([entry for entry in batch.entries if await self._sight.sees(entry.draft)])
        for chunk in chunks(visible, self._outlet.format, self._last):
            if self._gone:
                return
            self._begin_write()
            await self._outlet.write(chunk)
            self._end_write()
            self._last = chunk.last

    def _known(self, batch: Batch) -> Batch | None:
        """Leave out what the subscriber may not see; None when that has to be found out."""
        if self._sight.everything:
            return batch
        known = self._sight.known
        seen: list[Entry] = []
        for entry in batch.entries:
            sees = known(entry.draft)
            if sees is None:
                return None
            if sees:
                seen.append(entry)
        return batch if len(seen) == len(batch.entries) else batch.of(seen)

    def _ping_due(self) -> bool:
        return self._now() - self._quiet >= self._feed.pace.heartbeat

    def _begin_write(self) -> None:
        self._quiet = self._blocked = self._now()

    def _end_write(self) -> None:
        self._blocked = None


def chunks(batch: Batch, shape: Format, last: Cursor) -> Sequence[Chunk]:
    """Return a batch as an outlet of this format takes it; made once for all readers who get the same.

    `last` is the cursor of the last stored event that the reader was given before.
    """
    entries = batch.entries
    key = shape.name if entries and entries[0].position is not None else f"{shape.name} {last}"
    found = batch.encodings.get(key)
    if found is None:
        found = batch.encodings[key] = tuple(_chunks(entries, shape, last))
    return found  # type: ignore[return-value] # what stands under a format's name is its chunks


def _chunks(entries: Sequence[Entry], shape: Format, last: Cursor) -> list[Chunk]:
    found: list[Chunk] = []
    waiting: list[bytes] = []
    size = 0
    for entry in entries:
        piece = written(shape, entry, last)
        if waiting and (not shape.joined or size + len(piece) > LARGEST_CHUNK):
            found.append(Chunk(b"".join(waiting), last))
            waiting, size = [], 0
        waiting.append(piece)
        size += len(piece)
        if entry.position is not None:
            last = Cursor(last.epoch, entry.position)
    if waiting:
        found.append(Chunk(b"".join(waiting), last))
    return found
