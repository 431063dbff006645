"""The log: what happened, what was about to happen, and what it adds up to, durable before anybody is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
import structlog

from shadow import json
from shadow.batch import Append, Begin, Command, Dropped, Forget, Settle, Thin
from shadow.dialect import Dialect, dialect_of, execute
from shadow.errors import LogUnavailable, Trouble
from shadow.events import Cursor, Draft, EntityKey, Event
from shadow.folding import LAG
from shadow.journal import NewIntent, Settlement
from shadow.reader import Reader
from shadow.state import State, StateCache
from shadow.writer import Report, Writer

_STATE_QUERY = "SELECT fields, position FROM states WHERE entity = ? AND key = ?"

T_contra = TypeVar("T_contra", contravariant=True)


class Waiter(Protocol[T_contra]):
    """Whoever hears what became of a command: a future, or what acts at once. It is told exactly once."""

    def cancelled(self) -> bool:
        """Tell whether it does not want to hear of it any more."""

    def set_result(self, result: T_contra, /) -> None:
        """Learn that the command is durable, and what came of it."""

    def set_exception(self, error: BaseException, /) -> None:
        """Learn that it could not be carried out."""


Listener = Callable[[Sequence[Event]], None]

logger = structlog.get_logger(__name__)


class Log(Reader):
    """A log that this process alone writes; reading is inherited from Reader.

    Use it from one event loop. `begin`, `settle` and `append` return only after the commit; when their caller
    is cancelled meanwhile, the command is carried out all the same. Any of them raises LogUnavailable while the
    database cannot be written, and works again when it can.
    """

    def __init__(self, dialect: Dialect, *, cached_states: int, lag: int = LAG) -> None:
        self._cache = StateCache(cached_states)
        self._listeners: list[Listener] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._trouble: Trouble | None = None
        self._asked: list[tuple[Command, Waiter[Any]]] = []
        self._writer = Writer(dialect, self._cache, self._report, lag=lag)
        self._writer.open()
        self._head = Cursor(self._writer.epoch, self._writer.head.position)
        super().__init__(dialect, dialect.readers())
        self._states: sa.Connection | None = None
        self._state_query = _STATE_QUERY.replace("?", dialect.mark)

    @classmethod
    def open(cls, url: str, *, cached_states: int = 50_000, lag: int = LAG) -> Log:
        """Open the log at a database URL for writing; makes or migrates it. `lag` is that of `shadow.folding`.

        Blocks for some tens of milliseconds, some hundreds when there is something to migrate. Raises
        DatabaseTooNew, DatabaseBusy (another process writes it), or DatabaseRefused.
        """
        return cls(dialect_of(url), cached_states=cached_states, lag=lag)

    @staticmethod
    def read_only(url: str) -> Reader:
        """Open the log at a database URL for reading, beside the process that writes it."""
        return Reader.open_for_reading(url)

    @property
    def head(self) -> Cursor:
        """The cursor of the last event that listeners were told of."""
        return self._head

    @property
    def trouble(self) -> Trouble | None:
        """Why the last command could not be written, or None when it could."""
        return self._trouble

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Record intents, all or none; returns their ids when they are durable.

        Raises KeyReused when one of their idempotency keys is taken.
        """
        ids: tuple[int, ...] = await self._do(Begin(intents))
        return ids

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        """Record outcomes, with their events, states and kept answers, all or none; returns the events.

        Settling an intent again with the outcome that it has appends nothing and returns the events that it
        led to. Raises OutcomeRefused for any other outcome, and IntentUnknown.
        """
        events: tuple[Event, ...] = await self._do(Settle(settlements))
        return events

    def begin_then(self, intents: Sequence[NewIntent], told: Waiter[tuple[int, ...]]) -> None:
        """As `begin`, for whoever does not wait: `told` is called from the event loop. Raises if the log is closed."""
        self._ask(Begin(intents), told)

    def settle_then(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]]) -> None:
        """As `settle`, for whoever does not wait: `told` is called from the event loop. Raises if the log is closed."""
        self._ask(Settle(settlements), told)

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected: Mapping[EntityKey, int] | None = None,
        unmoved: Mapping[str, int] | None = None,
    ) -> tuple[Event, ...]:
        """Append events, all or none; returns them, or for an id that the log has already the stored event.

        With `expected` it raises PositionConflict unless the last event of each of these entities is at the
        given position (0: no event names the entity), with `unmoved` if a channel has an event after its position.
        """
        events: tuple[Event, ...] = await self._do(Append(drafts, expected or {}, unmoved or {}))
        return events

    async def forget_answers(self, now: int) -> None:
        """Drop the kept answers that have expired at `now`; they are not found any more either way."""
        await self._do(Forget(now))

    async def thin(self, dropped: Sequence[Dropped]) -> None:
        """Drop what events say; their positions and hashes stay, and so does every state that comes after them."""
        await self._do(Thin(dropped))

    def state(self, key: EntityKey) -> State | None:
        """Return the committed state of an entity, or None if no event ever named it.

        Reflects every `settle` and `append` that has returned. Blocks for one indexed read when the state is
        not among those used last. Raises LogUnavailable when that fails.
        """
        try:
            return self._cache.get(key)
        except KeyError:
            generation = self._cache.generation
        state = self._read_state(key)
        self._cache.remember({key: state}, generation)
        return state

    def on_commit(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` on the event loop with the events of each transaction, in order, without a gap.

        Returns a function that ends this.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def close(self) -> None:
        """Write what was asked for before, then let others have the log."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            await asyncio.to_thread(self._writer.close)
            self._drop_states()
            self.release()

    def _newer(self, connection: sa.Connection, entity: str, key: str | None = None) -> Mapping[EntityKey, State]:
        """See Reader; this process has them in memory."""
        return self._cache.newer(entity)

    def _read_state(self, key: EntityKey) -> State | None:
        """Read on a connection kept for this, because a mutation waits for it."""
        try:
            if self._states is None:
                self._states = self._engine.connect()
            row = execute(self._states, self._state_query, (key.entity, key.key)).fetchone()
        except sa.exc.DBAPIError:  # the connection was lost; the pool has others, or says what is wrong
            self._drop_states()
            try:
                return super().state(key)
            except sa.exc.DBAPIError as error:
                raise LogUnavailable(Trouble.GONE, " ".join(str(error.orig).split())) from error
        return None if row is None else State(row[0] and json.decode(row[0]), row[1])

    def _drop_states(self) -> None:
        if self._states is not None:
            self._states.invalidate()
            self._states.close()
            self._states = None

    async def _do(self, command: Command) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ask(command, future)
        return await future

    def _ask(self, command: Command, told: Waiter[Any]) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._closed:
            raise LogUnavailable(Trouble.CLOSED, "this process has closed it")
        if not self._asked:
            self._loop.call_soon(self._hand_over)
        self._asked.append((command, told))

    def _hand_over(self) -> None:
        """Give the writer all that was asked in one turn of the loop: waking its thread costs more than a command."""
        if self._asked:
            asked, self._asked = self._asked, []
            self._writer.put(asked)

    def _report(self, waiting: Sequence[Waiter[Any]], report: Report) -> None:
        """Pass a report on to the event loop; called by the writer's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, waiting, report)

    def _deliver(self, waiting: Sequence[Waiter[Any]], report: Report) -> None:
        self._head = Cursor(self._head.epoch, report.position)
        self._trouble = None
        # Listeners first: they give events to a few who wait for them, and leave the rest for the loop's next turns.
        if report.events:
            for listener in tuple(self._listeners):
                self._tell(listener, report.events)
        for told, result in zip(waiting, report.results, strict=True):
            if isinstance(result, LogUnavailable):
                self._trouble = result.trouble
            if told.cancelled():
                continue
            if isinstance(result, BaseException):
                told.set_exception(result)
            else:
                told.set_result(result)

    def _tell(self, listener: Listener, events: Sequence[Event]) -> None:
        try:
            listener(events)
        except Exception as error:  # what one listener does wrong is no concern of the others
            logger.error("listener_failed", error=type(error).__name__, exc_info=error)
