"""The one thread that writes a log.

It takes every command that is waiting, writes them in ONE transaction (so that one fsync serves them all), and
reports them together. While a transaction is being synced the next commands queue up, so batches grow as fast as the
load does, and a lone command waits for nobody. Only while many calls are under way does a command wait some moments for
company (as with PostgreSQL's commit_delay and commit_siblings): a transaction costs as much as a dozen commands, and
the disk is not ours alone.

When the database fails, commands fail with LogUnavailable and the next batch tries to open it again. A commit
that failed is not taken for one that did not happen: the log's own row tells, by batch number and writer name.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from shadow import faults, json, migrations, statements
from shadow.batch import Append, Batch, Begin, Command, Decided, Forget, Head, Settle, Standing, Thin
from shadow.dialect import Dialect, Row, execute
from shadow.errors import (
    DatabaseBusy,
    DatabaseRefused,
    DraftRefused,
    KeyReused,
    LogError,
    LogUnavailable,
    Trouble,
)
from shadow.events import GENESIS, Draft, EntityKey, Event
from shadow.faults import Point
from shadow.folding import Folding, Slice
from shadow.journal import UNSETTLED, Outcome
from shadow.reader import change_of, event_of, last_of_channel, select_changes, select_events
from shadow.schema import intents, log
from shadow.state import State, StateCache, follow
from shadow.statements import Statement

Result = tuple[int, ...] | tuple[Event, ...] | BaseException
"""What a command came to: intent ids, events, or the error that its caller gets."""

_LARGEST = 4096
"""Commands from which on no more are taken into a transaction, so that no caller waits for an endless one."""

_SIBLINGS = 8
"""Calls under way from which on a command waits for company."""

_COMPANY = 24
"""Commands that are company enough; fewer are, when fewer calls are under way."""

_MOMENT = 0.0001
"""Seconds after which it looks whether company has come."""

_MOMENTS = 6
"""How often it looks."""

_REST = 1.0
"""Seconds without a command after which the states are written that the table lacks."""

_BREATH = 0.005
"""Seconds between two slices of them."""

_ADVANCE = (
    "UPDATE log SET position = ?, hash = ?, last_intent = ?, batch = ?, writer = ?, folded = ? "
    "WHERE one = 1 AND batch = ?"
)
"""Moves the log's own row on from where it was last seen; of two writers only one can."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the commands of one transaction, in their order."""

    results: Sequence[Result]
    events: Sequence[Event]
    position: int


class Writer:
    """Owns the writing connection from `open` to `close`; commands go in through `put` from any thread."""

    def __init__(
        self, dialect: Dialect, cache: StateCache, report: Callable[[Sequence[Any], Report], None], *, lag: int
    ) -> None:
        self.epoch = ""
        self.head = Head(0, GENESIS, 0, 0)
        self._dialect = dialect
        self._cache = cache
        self._report = report
        self._name = secrets.token_hex(8)
        self._advance = _ADVANCE.replace("?", dialect.mark)
        self._connection: sa.Connection | None = None
        self._standings: dict[int, Standing] = {}
        self._queue: queue.SimpleQueue[Sequence[tuple[Command, object]] | None] = queue.SimpleQueue()
        self._missed: list[Event] = []
        self._under_way = 0
        """How many intents are durable and have no outcome, nor a doubt about it."""
        self._lag = lag
        self._folding = Folding(0, lag=lag)
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def open(self) -> None:
        """Take the database, migrate it, and start; raises DatabaseRefused or LogUnavailable."""
        try:
            self._connection = self._dialect.own(create=True)
            self._migrate(self._connection)
            self._load(self._connection)
        except sa.exc.DBAPIError as error:
            self._abandon()
            raise DatabaseRefused(f"cannot open the log: {_reason(error)}") from error
        except BaseException:
            self._abandon()
            raise
        self._thread.start()

    def put(self, commands: Sequence[tuple[Command, object]]) -> None:
        """Queue commands, each with a token that comes back with its result."""
        self._queue.put(commands)

    def close(self) -> None:
        """Write what is queued, then let the database go; blocks until then."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (waiting := self._take()) is not None:
            if waiting:
                self._report([token for _, token in waiting], self._commit([command for command, _ in waiting]))
            elif self._connection is not None:
                self._catch_up()
        self._complete_states()
        self._abandon()

    def _take(self) -> list[tuple[Command, object]] | None:
        """Wait for a command and return it with all others that are there; nothing when at rest, None when closing."""
        taken: list[tuple[Command, object]] = []
        try:
            commands = self._queue.get(timeout=self._patience())
        except queue.Empty:
            return taken
        if commands is None:
            return None
        taken += commands
        self._take_more(taken)
        if self._under_way > _SIBLINGS:
            for _ in range(_MOMENTS):
                if len(taken) >= min(self._under_way, _COMPANY):
                    break
                time.sleep(_MOMENT)
                self._take_more(taken)
        return taken

    def _take_more(self, taken: list[tuple[Command, object]]) -> None:
        """Add what is there already; the end is left for the next time."""
        while len(taken) < _LARGEST and not self._queue.empty():
            commands = self._queue.get()
            if commands is None:
                self._queue.put(None)
                return
            taken += commands

    def _patience(self) -> float | None:
        """Return how long to wait for a command before the states are looked after, None if they are complete."""
        if self._connection is None or not self._cache.unwritten:
            return None
        return _BREATH if self._folding.sweeping else _REST

    def _catch_up(self) -> None:
        """Write a slice of the states that the table lacks, while there is nothing else to do."""
        report = self._commit([])
        if report.events:
            self._report([], report)

    def _commit(self, commands: Sequence[Command]) -> Report:
        try:
            return self._patiently(commands)
        except LogUnavailable as error:
            return self._refused([_again(error) for _ in commands])
        except Exception:  # noqa: BLE001 - one command is not as it should be: give each its own transaction
            reports = [self._commit_alone(command) for command in commands]
        return Report(
            [result for report in reports for result in report.results],
            [event for report in reports for event in report.events],
            self.head.position,
        )

    def _commit_alone(self, command: Command) -> Report:
        try:
            return self._patiently([command], again=True)
        except sa.exc.IntegrityError as error:
            if isinstance(command, Begin):
                return self._refused([KeyReused("an idempotency key is used again while its first answer is kept")])
            return self._refused([DraftRefused(f"the database refused the events: {_reason(error)}")])
        except sa.exc.DBAPIError as error:
            return self._refused([DraftRefused(f"the database refused this: {_reason(error)}")])
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller is waiting
            return self._refused([error])

    def _patiently(self, commands: Sequence[Command], *, again: bool = False) -> Report:
        """Do it once more if all that was lost is the connection: nothing was committed then."""
        try:
            return self._transact(commands, again=again)
        except LogUnavailable as error:
            if error.trouble is not Trouble.GONE or error.unknown:
                raise
        return self._transact(commands, again=again)

    def _refused(self, errors: Sequence[BaseException]) -> Report:
        return Report(errors, self._take_missed(), self.head.position)

    def _transact(self, commands: Sequence[Command], *, again: bool = False) -> Report:
        """Decide, write and commit; raises DBAPIError (rolled back) or LogUnavailable.

        Events that the log has already are looked for only when doing it `again`: the database refuses them anyway.
        """
        connection = self._open_again()
        batch: Batch | None = None
        committing = False
        decided: list[Result | Decided] = []
        try:
            states, standings = self._before(connection, commands)
            known = self._known(connection, commands) if again else {}
            batch = Batch(self.head, states.get, standings.get, known, self._last_of(connection, commands))
            decided = [_decide(batch, command) for command in commands]
            swept = self._folding.plan(self.head.position, self._cache.unwritten, at_rest=not commands)
            if not batch.empty or swept.keys:
                execute(connection, self._dialect.begin)
                self._write(connection, batch, swept)
                committing = True
                self._dialect.commit(connection)
                self._committed(batch, swept)
        except sa.exc.DBAPIError as error:
            trouble = self._dialect.trouble(error.orig)
            if trouble is None:
                self._roll_back(connection)
                raise
            self._drop()
            if batch is None or not (committing and self._happened(batch)):
                raise LogUnavailable(trouble, _reason(error)) from error
        except BaseException:
            self._drop()
            raise
        return self._told(batch, decided)

    def _told(self, batch: Batch, decided: Sequence[Result | Decided]) -> Report:
        try:
            results = [self._stored(result) for result in decided]
        except sa.exc.DBAPIError as error:
            self._drop()
            raise LogUnavailable(Trouble.GONE, _reason(error), unknown=True) from error
        return Report(results, [*self._take_missed(), *batch.events], self.head.position)

    def _before(
        self, connection: sa.Connection, commands: Iterable[Command]
    ) -> tuple[dict[EntityKey, State | None], dict[int, Standing]]:
        """Return what the commands depend on: the states of their entities, where their intents stand."""
        keys: set[EntityKey] = set()
        ids: set[int] = set()
        for command in commands:
            if isinstance(command, Begin):
                # Whoever begins will soon ask for the state: one read for all spares each a read of its own.
                for intent in command.intents:
                    if intent.entity_key is not None and intent.entity_key not in self._cache:
                        keys.add(intent.entity_key)
            elif isinstance(command, Append):
                keys.update(command.expected)
                keys.update(draft.entity for draft in command.drafts if draft.entity is not None)
            elif isinstance(command, Settle):
                for settlement in command.settlements:
                    ids.add(settlement.intent)
                    keys.update(draft.entity for draft in settlement.drafts if draft.entity is not None)
        return self._states(connection, keys), self._stand(connection, ids)

    def _last_of(self, connection: sa.Connection, commands: Iterable[Command]) -> dict[str, int]:
        channels = {channel for command in commands if isinstance(command, Append) for channel in command.unmoved}
        return {channel: last_of_channel(connection, channel, self.head.position) for channel in channels}

    def _states(self, connection: sa.Connection, keys: Iterable[EntityKey]) -> dict[EntityKey, State | None]:
        states: dict[EntityKey, State | None] = {}
        missing: list[EntityKey] = []
        for key in keys:
            try:
                states[key] = self._cache.get(key)
            except KeyError:
                missing.append(key)
        if missing:
            generation = self._cache.generation
            found = self._table_states(connection, missing)
            self._cache.remember(found, generation)
            states |= found
        return states

    def _table_states(self, connection: sa.Connection, keys: Collection[EntityKey]) -> dict[EntityKey, State | None]:
        """Read states from the table, which may lag behind for those that are in the cache."""
        states: dict[EntityKey, State | None] = {}
        for entity, text, fields, position in self._do(connection, statements.READ_STATES, list(keys)):
            state = None if position is None else State(fields and json.decode(fields), position)
            states[EntityKey(entity, text)] = state
        return states

    def _stand(self, connection: sa.Connection, ids: Iterable[int]) -> dict[int, Standing]:
        standings = {id: self._standings[id] for id in ids if id in self._standings}
        missing = [(id,) for id in ids if id not in standings]
        if missing:
            for id, *row in self._do(connection, statements.READ_STANDINGS, missing):
                standings[id] = _standing(*row)
        return standings

    def _write(self, connection: sa.Connection, batch: Batch, swept: Slice) -> None:
        head = batch.head
        moved = execute(
            connection,
            self._advance,
            (head.position, head.hash, head.last_intent, head.batch, self._name, swept.folded, head.batch - 1),
        )
        if moved.rowcount != 1:
            raise LogUnavailable(Trouble.TAKEN, "another process has written this log meanwhile")
        if batch.intent_rows:
            self._write_intents(connection, batch)
        if batch.outcome_rows or batch.event_rows:
            self._write_events(connection, batch, swept)
        elif swept.keys:
            self._write_states(connection, batch, swept)
        self._do(connection, statements.DROP_EXPIRED, batch.expired_rows)
        self._do(connection, statements.THIN_EVENTS, batch.thinned_rows)

    def _write_intents(self, connection: sa.Connection, batch: Batch) -> None:
        faults.reach(Point.BEFORE_BEGIN)
        self._do(connection, statements.INSERT_INTENTS, batch.intent_rows)
        self._do(connection, statements.EXPIRE_ANSWERS, batch.claim_rows)
        self._do(connection, statements.RESERVE_ANSWERS, batch.reservation_rows)
        faults.reach(Point.INSIDE_BEGIN)

    def _write_events(self, connection: sa.Connection, batch: Batch, swept: Slice) -> None:
        faults.reach(Point.BEFORE_SETTLE)
        self._do(connection, statements.INSERT_EVENTS, batch.event_rows)
        faults.reach(Point.EVENTS_WRITTEN)
        self._write_states(connection, batch, swept)
        self._do(connection, statements.SETTLE_INTENTS, batch.outcome_rows)
        self._do(connection, statements.KEEP_ANSWERS, batch.answer_rows)
        self._do(connection, statements.FREE_ANSWERS, batch.freed_rows)
        faults.reach(Point.INSIDE_SETTLE)

    def _write_states(self, connection: sa.Connection, batch: Batch, swept: Slice) -> None:
        """Write the newest states of the keys that a sweep has come to, which may be this batch's own."""
        newest = [(key, batch.states.get(key) or self._cache.unwritten[key]) for key in swept.keys]
        rows = [
            (*key, None if state.fields is None else json.encode(state.fields).decode(), state.position)
            for key, state in newest
        ]
        self._do(connection, statements.UPSERT_STATES, rows)

    def _do(self, connection: sa.Connection, statement: Statement, rows: Sequence[Row]) -> list[Any]:
        return statements.run(connection, self._dialect, statement, rows) if rows else []

    def _committed(self, batch: Batch, swept: Slice) -> None:
        if batch.intent_rows:
            faults.reach(Point.AFTER_BEGIN)
        if batch.outcome_rows or batch.event_rows:
            faults.reach(Point.AFTER_SETTLE)
        if lost := self._dialect.vanished():
            raise LogUnavailable(Trouble.GONE, lost, unknown=True)
        self.head = batch.head
        self._cache.commit(batch.states, swept.keys)
        self._folding.written(swept)
        for id, standing in batch.standings.items():
            before = self._standings.pop(id, None)
            self._under_way += _counts(standing) - _counts(before)
            if standing.outcome in UNSETTLED:
                self._standings[id] = standing

    def _happened(self, batch: Batch) -> bool:
        """Tell whether a commit that failed took place all the same; raises LogUnavailable if that cannot be known.

        Its events then count as missed, and are told with this batch's report.
        """
        try:
            connection = self._open_again()
            writer = connection.execute(sa.select(log.c.writer)).scalar_one()
        except LogUnavailable as error:
            raise LogUnavailable(error.trouble, error.reason, unknown=True) from error
        except sa.exc.DBAPIError as error:
            self._drop()
            raise LogUnavailable(Trouble.GONE, _reason(error), unknown=True) from error
        if self.head.batch == batch.head.batch and writer == self._name:
            batch.events.clear()
            return True
        return False

    def _stored(self, result: Result | Decided) -> Result:
        """Replace spans by the events that are in the log."""
        if not isinstance(result, list):
            return result
        events: list[Event] = []
        for part in result:
            if isinstance(part, Event):
                events.append(part)
            else:
                rows = self._open_again().execute(select_events(part.first, part.first + part.count - 1))
                events.extend(map(event_of, rows))
        return tuple(events)

    def _known(self, connection: sa.Connection, commands: Iterable[Command]) -> dict[str, int]:
        """Return the positions of those of the commands' events that are in the log already."""
        ids = [(draft.id,) for command in commands for draft in _drafts(command)]
        return dict(self._do(connection, statements.READ_KNOWN, ids))

    def _open_again(self) -> sa.Connection:
        """Return the connection, opened anew if it was lost; raises LogUnavailable."""
        if self._connection is not None:
            return self._connection
        try:
            self._connection = self._dialect.own(create=False)
            migrations.check(self._connection)
            self._load(self._connection)
        except LogUnavailable:
            self._drop()
            raise
        except LogError as error:
            self._drop()
            trouble = Trouble.TAKEN if isinstance(error, DatabaseBusy) else Trouble.GONE
            raise LogUnavailable(trouble, str(error)) from error
        except sa.exc.DBAPIError as error:
            self._drop()
            raise LogUnavailable(self._dialect.trouble(error.orig) or Trouble.GONE, _reason(error)) from error
        return self._connection

    def _migrate(self, connection: sa.Connection) -> None:
        """Bring the schema up to date; a database without a log gets one."""
        connection.exec_driver_sql(self._dialect.begin)
        migrations.migrate(connection)
        if connection.execute(sa.select(log.c.epoch)).first() is None:
            birth = Head(0, GENESIS, 0, 0)
            row = {
                "one": 1,
                "epoch": secrets.token_hex(3),
                "writer": self._name,
                "folded": 0,
                **msgspec.structs.asdict(birth),
            }
            connection.execute(log.insert(), row)
        connection.exec_driver_sql("COMMIT")

    def _load(self, connection: sa.Connection) -> None:
        """Read where the log stands; what was cached of it is forgotten."""
        row = connection.execute(sa.select(log)).one()
        if self.epoch and row.epoch != self.epoch:
            raise LogUnavailable(Trouble.GONE, f"the database holds another log now: {row.epoch}, not {self.epoch}")
        missed = connection.execute(select_events(self.head.position + 1, row.position)) if self.epoch else ()
        self._missed += map(event_of, missed)
        self.epoch = row.epoch
        self.head = Head(row.position, row.hash, row.last_intent, row.batch)
        self._cache.clear()
        self._cache.commit(self._lagging(connection, row.folded))
        self._folding = Folding(row.folded, lag=self._lag)
        columns = (intents.c.outcome, intents.c.idempotency, intents.c.call_index, intents.c.position, intents.c.events)
        unsettled = sa.select(intents.c.id, *columns).where(intents.c.outcome.in_(UNSETTLED))
        self._standings = {id: _standing(*row) for id, *row in connection.execute(unsettled)}
        self._under_way = sum(map(_counts, self._standings.values()))

    def _lagging(self, connection: sa.Connection, folded: int) -> dict[EntityKey, State]:
        """Return the states that the table does not have yet: what it has, and the events after it."""
        changes = list(map(change_of, connection.execute(select_changes(folded))))
        keys = {key for _, _, key, _, _ in changes}
        states = {key: state for key, state in self._table_states(connection, keys).items() if state is not None}
        for position, _, key, effect, change in changes:
            before = states.get(key)
            if before is None or before.position < position:
                states[key] = follow(before, position, effect, change)
        return states

    def _complete_states(self) -> None:
        """Write every state that the table lacks, so that whoever reads a log at rest has nothing to fold."""
        connection, batch = self._connection, Batch(self.head, self._cache.get, self._standings.get, {})
        if connection is None or not self._cache.unwritten:
            return
        everything = Slice(sorted(self._cache.unwritten), self.head.position)
        with contextlib.suppress(sa.exc.DBAPIError, LogUnavailable):  # then the next start has something to fold
            execute(connection, self._dialect.begin)
            self._write(connection, batch, everything)
            self._dialect.commit(connection)

    def _take_missed(self) -> list[Event]:
        missed, self._missed = self._missed, []
        return missed

    def _roll_back(self, connection: sa.Connection) -> None:
        try:
            connection.exec_driver_sql("ROLLBACK")
        except sa.exc.DBAPIError:  # nothing was begun, or nobody is there to hear it
            self._drop()

    def _drop(self) -> None:
        """Let the connection go, so that the next batch opens another."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _abandon(self) -> None:
        self._drop()
        self._dialect.disown()


def _decide(batch: Batch, command: Command) -> Result | Decided:
    try:
        return command.decide(batch)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one command is told to its caller alone
        return error


def _again(error: LogUnavailable) -> LogUnavailable:
    """Return an error of its own for one of many callers, because raising adds to an error's traceback."""
    return LogUnavailable(error.trouble, error.reason, unknown=error.unknown)


def _drafts(command: Command) -> list[Draft]:
    match command:
        case Settle(settlements):
            return [draft for settlement in settlements for draft in settlement.drafts]
        case Append(drafts):
            return list(drafts)
        case Begin() | Forget() | Thin():
            return []


def _counts(standing: Standing | None) -> bool:
    """Tell whether an intent counts as under way."""
    return standing is not None and standing.outcome is Outcome.OPEN


def _standing(outcome: str, idempotency: str | None, index: int, position: int | None, events: int) -> Standing:
    return Standing(Outcome(outcome), idempotency, index, position or 0, events)


def _reason(error: sa.exc.DBAPIError) -> str:
    """Return what the driver said, without SQLAlchemy's copy of the statement and its parameters."""
    return " ".join(str(error.orig).split())
