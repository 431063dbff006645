"""Reading a log: by channel and position, by entity, at a moment, and checking that nobody altered it.

A reader never writes and never waits for the writer. Its methods block and are safe in any thread.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import sqlalchemy as sa

from shadow import json, migrations
from shadow.dialect import Dialect, dialect_of
from shadow.errors import DatabaseMissing, DatabaseRefused
from shadow.events import GENESIS, Cursor, Draft, Effect, EntityKey, Event, chain
from shadow.journal import UNSETTLED, Intent, KeptAnswer, Outcome, Tally
from shadow.schema import SEGMENT, answers, events, intents, log, states
from shadow.state import Fields, State, follow

_WIDEST = 512
"""Segments that one query looks into at most."""

DROPPED = ""
"""Stands for the data of an event that is kept no longer; no JSON is empty."""

_PAGE = 5_000
"""Events read at once by what goes through the whole log."""

_KEYS = 500
"""States asked for at once."""


@dataclass(frozen=True, slots=True)
class At:
    """A moment: after everything up to a position, or up to a time in milliseconds; exactly one is given."""

    position: int | None = None
    time: int | None = None

    def includes(self, event: Event) -> bool:
        """Tell whether `event` had happened at this moment."""
        if self.position is not None:
            return event.position <= self.position
        return self.time is not None and event.draft.time <= self.time


class Damage(StrEnum):
    """What is wrong at a position."""

    GAP = "gap"
    """The event is not there."""
    ALTERED = "altered"
    """The event, or its hash, is not the one that was written."""
    TRUNCATED = "truncated"
    """The log ends before the position that it once had."""
    EXTRA = "extra"
    """There is an event after the log's own end."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where the chain breaks first."""

    position: int
    damage: Damage


Change = tuple[int, int, EntityKey, Effect, Fields | None]
"""Position, time, entity, effect and change of one event."""


class Reader:
    """A log, for reading only."""

    def __init__(self, dialect: Dialect, engine: sa.Engine) -> None:
        self._dialect = dialect
        self._engine = engine

    @classmethod
    def open_for_reading(cls, url: str) -> Reader:
        """Open the log at `url` beside whatever writes it; raises DatabaseRefused and its kinds."""
        dialect = dialect_of(url)
        engine = dialect.readers()
        try:
            with engine.connect() as connection:
                migrations.check(connection)
                if connection.execute(sa.select(log.c.epoch)).first() is None:
                    raise DatabaseMissing("this database holds no log yet; start `changeover serve` on it first")
        except sa.exc.DBAPIError as error:
            engine.dispose()
            raise DatabaseRefused(f"cannot read the log: {error.orig}") from error
        except BaseException:
            engine.dispose()
            raise
        return cls(dialect, engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Close the reading connections."""
        self._engine.dispose()

    @property
    def head(self) -> Cursor:
        """The cursor of the last event."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(log.c.epoch, log.c.position)).one()
        return Cursor(row.epoch, row.position)

    def read(self, patterns: Sequence[str], after: int, limit: int, types: Sequence[str] | None = None) -> list[Event]:
        """Return the first `limit` events after a position whose channel matches a pattern, in order.

        Those whose data are kept no longer are among them, with a cause of RETENTION.
        """
        found: list[Event] = []
        with self._engine.connect() as connection:
            end = connection.execute(sa.select(log.c.position)).scalar_one()
            for query in _queries(patterns, after, end):
                if types is not None:
                    query = query.where(events.c.type.in_(types))
                found += map(event_of, connection.execute(query.limit(limit - len(found))))
                if len(found) >= limit:
                    break
        return found

    def latest(self, patterns: Sequence[str], count: int, types: Sequence[str] | None = None) -> list[Event]:
        """Return the last `count` events whose channel matches a pattern and that are kept, oldest first."""
        found: list[Event] = []
        with self._engine.connect() as connection:
            end = connection.execute(sa.select(log.c.position)).scalar_one()
            for query in _queries_back(patterns, end):
                query = query.where(events.c.data != DROPPED)
                if types is not None:
                    query = query.where(events.c.type.in_(types))
                found += map(event_of, connection.execute(query.limit(count - len(found))))
                if len(found) >= count:
                    break
        return found[::-1]

    def count(self, channel: str) -> int:
        """Return how many events a channel has that are kept; looks at all of them."""
        kept = sa.and_(events.c.channel == channel, events.c.data != DROPPED)
        query = sa.select(sa.func.count()).select_from(events).where(kept)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def kept(self, patterns: Sequence[str], after: int, limit: int) -> list[tuple[int, str, int]]:
        """Return position, channel and time of the first `limit` events of some patterns that say something still.

        Events of the proxy's own entities are left out: they are kept for ever.
        """
        wanted = sa.select(events.c.position, events.c.channel, events.c.time).where(
            events.c.position > after,
            events.c.data != DROPPED,
            sa.or_(events.c.entity.is_(None), sa.not_(events.c.entity.startswith("@"))),
        )
        if "*" not in patterns:
            wanted = wanted.where(sa.or_(*_channels(patterns)))
        with self._engine.connect() as connection:
            rows = connection.execute(wanted.order_by(events.c.position).limit(limit)).all()
        return [(row.position, row.channel, row.time) for row in rows]

    def kept_in_channels(self, patterns: Sequence[str]) -> dict[str, int]:
        """Return how many events of each channel say something still."""
        wanted = sa.select(events.c.channel, sa.func.count().label("total")).where(events.c.data != DROPPED)
        if "*" not in patterns:
            wanted = wanted.where(sa.or_(*_channels(patterns)))
        with self._engine.connect() as connection:
            return {row.channel: row.total for row in connection.execute(wanted.group_by(events.c.channel))}

    def channels_of(self, positions: Sequence[int]) -> dict[int, str]:
        """Return the channels of the events at some positions."""
        query = sa.select(events.c.position, events.c.channel).where(events.c.position.in_(positions))
        with self._engine.connect() as connection:
            return {row.position: row.channel for row in connection.execute(query)}

    def event(self, position: int) -> Event | None:
        """Return the event at a position."""
        with self._engine.connect() as connection:
            row = connection.execute(select_events(position, position)).first()
        return None if row is None else event_of(row)

    def find(self, id: str) -> Event | None:
        """Return the event with an id."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(*_EVENT).where(events.c.id == id)).first()
        return None if row is None else event_of(row)

    def history(self, key: EntityKey, at: At | None = None) -> list[Event]:
        """Return all events of an entity, oldest first; with `at`, those that had happened then."""
        back = list(self._backwards(key))
        while at is not None and back and not at.includes(back[0]):
            back.pop(0)
        return back[::-1]

    def state(self, key: EntityKey) -> State | None:
        """Return the state of an entity, or None if no event ever named it."""
        with self._engine.connect() as connection:
            newer = self._newer(connection, key.entity, key.key)
            return _newest(_in_table(connection, [key]), newer).get(key)

    def states(self, entity: str, after_key: str | None, limit: int) -> list[tuple[EntityKey, State]]:
        """Return a page of an entity's states in the order of their keys, deleted ones included."""
        wanted = (
            [states.c.entity == entity]
            if after_key is None
            else [
                states.c.entity == entity,
                states.c.key > after_key,
            ]
        )
        with self._engine.connect() as connection:
            newer = self._newer(connection, entity)
            rows = connection.execute(sa.select(states).where(*wanted).order_by(states.c.key).limit(limit)).all()
        page = {EntityKey(row.entity, row.key): State(_fields(row.fields), row.position) for row in rows}
        # What is new may belong to pages before this one or after it.
        last = rows[-1].key if rows and len(rows) == limit else None
        mine = {
            key: state
            for key, state in newer.items()
            if (after_key is None or key.key > after_key) and (last is None or key.key <= last)
        }
        return sorted(_newest(page, mine).items())[:limit]

    def keys(self, entity: str) -> Iterator[str]:
        """Yield the keys of all entities of a kind that are there, in order."""
        page = self.states(entity, None, _PAGE)
        while page:
            yield from (key.key for key, state in page if state.fields is not None)
            page = self.states(entity, page[-1][0].key, _PAGE)

    def at(self, key: EntityKey, at: At) -> State | None:
        """Return the state that an entity had at a moment, or None if no event had named it by then."""
        past = self.history(key, at)
        state: State | None = None
        for event in past:
            state = follow(state, event.position, event.draft.effect, event.draft.change)
        return state

    def states_at(self, at: At) -> dict[EntityKey, State]:
        """Return the states of all entities at a moment, by folding the whole log; reads all of it."""
        found: dict[EntityKey, State] = {}
        for position, time, key, effect, change in self.replay():
            if at.position is not None and position > at.position:
                break
            if at.time is None or time <= at.time:
                found[key] = follow(found.get(key), position, effect, change)
        return found

    def replay(self, after: int = 0) -> Iterator[Change]:
        """Yield position, time, entity key, effect and change of every event that names an entity, in order."""
        for rows in self._pages(_CHANGES, after):
            yield from map(change_of, rows)

    def verify(self, progress: Callable[[int, int], None] | None = None) -> Break | None:
        """Recompute every hash and return where the chain breaks first; `progress` hears (done, all) on the way."""
        with self._engine.connect() as connection:
            end = connection.execute(sa.select(log)).one()
        hash, position = GENESIS, 0
        for rows in self._pages(sa.select(*_EVENT), 0):
            for row in rows:
                position += 1
                if row.position != position:
                    return Break(position, Damage.GAP)
                if position > end.position:
                    # Either forged, or committed since we looked: then the log's own row has moved on too.
                    return self._beyond(position)
                # What was dropped can no longer be hashed; the hash that it had still links its neighbours.
                if row.data != DROPPED and _rehash(hash, row) != row.hash:
                    return Break(position, Damage.ALTERED)
                hash = row.hash
            if progress is not None:
                progress(position, end.position)
        if position < end.position:
            return Break(position + 1, Damage.TRUNCATED)
        return None if hash == end.hash else Break(position, Damage.ALTERED)

    def open_intents(self) -> list[Intent]:
        """Return the intents of which nothing is known, oldest first."""
        return self.intents(outcomes=(Outcome.OPEN,))

    def doubts(self) -> list[Intent]:
        """Return the intents in doubt, oldest first."""
        return self.intents(outcomes=(Outcome.IN_DOUBT,))

    def intent(self, id: int) -> Intent | None:
        """Return one intent."""
        found = self.intents(after=id - 1, limit=1)
        return found[0] if found and found[0].id == id else None

    def intents(
        self,
        outcomes: Sequence[Outcome] = (),
        *,
        procedure: str | None = None,
        phase: str | None = None,
        entity_key: EntityKey | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Intent]:
        """Return the intents after an id that pass every given filter, oldest first."""
        query = sa.select(intents).where(intents.c.id > after).order_by(intents.c.id).limit(limit)
        if outcomes:
            query = query.where(_outcome_in(outcomes))
        if procedure is not None:
            query = query.where(intents.c.procedure == procedure)
        if phase is not None:
            query = query.where(intents.c.phase == phase)
        if entity_key is not None:
            query = query.where(intents.c.entity == entity_key.entity, intents.c.key == entity_key.key)
        with self._engine.connect() as connection:
            return [_intent(row) for row in connection.execute(query)]

    def tallies(self) -> list[Tally]:
        """Return how many intents of each procedure came to each outcome; reads all intents."""
        groups = (intents.c.procedure, intents.c.phase, intents.c.outcome)
        query = sa.select(*groups, sa.func.count().label("total")).group_by(*groups).order_by(*groups)
        with self._engine.connect() as connection:
            return [
                Tally(row.procedure, row.phase, Outcome(row.outcome), row.total) for row in connection.execute(query)
            ]

    def answer(self, idempotency: str, index: int, now: int) -> KeptAnswer | None:
        """Return what is kept under an idempotency key and batch index and has not expired."""
        query = sa.select(answers).where(
            answers.c.idempotency == idempotency, answers.c.call_index == index, answers.c.expires > now
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        answer = None if row.answer is None else base64.b64decode(row.answer)
        return KeptAnswer(row.intent, row.fingerprint, answer, row.expires)

    def _backwards(self, key: EntityKey) -> Iterator[Event]:
        state = Reader.state(self, key)
        if state is None:
            return
        back = sa.select(*_EVENT, events.c.previous).where(events.c.position == state.position).cte(recursive=True)
        back = back.union_all(sa.select(*_EVENT, events.c.previous).where(events.c.position == back.c.previous))
        with self._engine.connect() as connection:
            yield from map(event_of, connection.execute(sa.select(back).order_by(back.c.position.desc())))

    def _newer(self, connection: sa.Connection, entity: str, key: str | None = None) -> Mapping[EntityKey, State]:
        """Return the states of a kind of entity (or of one) that the table may lack; read the table after this."""
        named = [events.c.entity == entity] if key is None else [events.c.entity == entity, events.c.key == key]
        return newer_states(connection, *named)

    def _pages(self, query: sa.Select[Any], after: int) -> Iterator[Sequence[sa.Row[Any]]]:
        """Yield the rows of an event query in position order, a page at a time, each page on a fresh snapshot."""
        with self._engine.connect() as connection:
            while rows := connection.execute(
                query.where(events.c.position > after).order_by(events.c.position).limit(_PAGE)
            ).all():
                yield rows
                after = rows[-1].position

    def _beyond(self, position: int) -> Break | None:
        if self.head.position >= position:
            return None
        return Break(position, Damage.EXTRA)


_EVENT = tuple(column for column in events.c if column.name not in {"segment", "previous"})
_EFFECTS = {effect.value: effect for effect in Effect}


_CHANGES = sa.select(*(events.c[column] for column in ("position", "time", "entity", "key", "effect", "change"))).where(
    events.c.entity.is_not(None)
)


def select_changes(after: int) -> sa.Select[Any]:
    """Return the query for what `change_of` reads, of every event after a position that names an entity."""
    return _CHANGES.where(events.c.position > after).order_by(events.c.position)


def change_of(row: sa.Row[Any]) -> Change:
    """Return what an event does to its entity."""
    return row.position, row.time, EntityKey(row.entity, row.key), _EFFECTS[row.effect], _fields(row.change)


_FOLDED = sa.select(log.c.folded, log.c.position)


def newer_states(connection: sa.Connection, *named: sa.ColumnElement[bool]) -> dict[EntityKey, State]:
    """Return the states that the table may lack, of those entities whose events meet some conditions.

    They are what the table has and the events after it add up to. Where a connection sees each statement at another
    moment, read the table after this: what it gains meanwhile is told from these by its position.
    """
    folded, position = connection.execute(_FOLDED).one()
    if folded == position:
        return {}
    changes = list(map(change_of, connection.execute(select_changes(folded).where(*named))))
    found = _in_table(connection, {key for _, _, key, _, _ in changes})
    for position, _, changed, effect, change in changes:
        before = found.get(changed)
        if before is None or before.position < position:
            found[changed] = follow(before, position, effect, change)
    return found


def _newest(one: Mapping[EntityKey, State], other: Mapping[EntityKey, State]) -> dict[EntityKey, State]:
    """Return the newer one of two states of each entity."""
    found = dict(one)
    for key, state in other.items():
        if key not in found or found[key].position < state.position:
            found[key] = state
    return found


def _in_table(connection: sa.Connection, keys: Iterable[EntityKey]) -> dict[EntityKey, State]:
    """Return what the table has of some states."""
    found: dict[EntityKey, State] = {}
    wanted = list(keys)
    for start in range(0, len(wanted), _KEYS):
        some = sa.tuple_(states.c.entity, states.c.key).in_(wanted[start : start + _KEYS])
        for row in connection.execute(sa.select(states).where(some)):
            found[EntityKey(row.entity, row.key)] = State(_fields(row.fields), row.position)
    return found


def select_events(first: int, last: int) -> sa.Select[Any]:
    """Return the query for the events from position `first` to `last`."""
    return sa.select(*_EVENT).where(events.c.position.between(first, last)).order_by(events.c.position)


def event_of(row: sa.Row[Any]) -> Event:
    """Return the event in a row of the events table."""
    return Event(row.position, _draft(row), row.hash)


def _draft(row: sa.Row[Any]) -> Draft:
    return Draft(
        row.id,
        row.channel,
        row.type,
        row.time,
        None if row.data == DROPPED else json.decode(row.data),
        None if row.entity is None else EntityKey(row.entity, row.key),
        _EFFECTS[row.effect],
        _fields(row.change),
        row.actor,
        row.cause,
    )


def _rehash(previous: str, row: sa.Row[Any]) -> str | None:
    """Return the hash that the row's content leads to, or None when it can no longer even be read."""
    try:
        return chain(previous, row.position, _draft(row))
    except (ValueError, KeyError):
        return None


def _fields(text: str | None) -> Fields | None:
    if text is None:
        return None
    fields: Fields = json.decode(text)
    return fields


def _queries(patterns: Sequence[str], after: int, end: int) -> Iterator[sa.Select[Any]]:
    """Yield queries that together find all events of the patterns up to `end`, in order.

    Each looks into the next few segments, and into more of them the longer nothing fills the caller's limit.
    """
    if "*" in patterns:
        yield _between(events.c.position, after, end)
        return
    # Adding nothing keeps the database from walking along all positions instead of using the channel index.
    span = _between(events.c.position + 0, after, end)
    segment, width = (after + 1) // SEGMENT, 1
    while patterns and segment <= end // SEGMENT:
        yield span.where(_found(patterns, range(segment, segment + width)))
        segment, width = segment + width, min(width * 4, _WIDEST)


def _queries_back(patterns: Sequence[str], end: int) -> Iterator[sa.Select[Any]]:
    """Yield queries that together find all events of the patterns up to `end`, the last one first."""
    if "*" in patterns:
        yield _between(events.c.position, 0, end, backwards=True)
        return
    span = _between(events.c.position + 0, 0, end, backwards=True)
    segment, width = end // SEGMENT, 1
    while patterns and segment >= 0:
        first = max(0, segment - width + 1)
        yield span.where(_found(patterns, range(first, segment + 1)))
        segment, width = first - 1, min(width * 4, _WIDEST)


def last_of_channel(connection: sa.Connection, channel: str, end: int) -> int:
    """Return the position of the last event of a channel up to `end`, 0 if it has none."""
    for query in _queries_back([channel], end):
        row = connection.execute(query.limit(1)).first()
        if row is not None:
            return int(row.position)
    return 0


def _between(position: sa.ColumnElement[int], after: int, end: int, *, backwards: bool = False) -> sa.Select[Any]:
    order = position.desc() if backwards else position
    return sa.select(*_EVENT).where(position > after, position <= end).order_by(order)


def _found(patterns: Sequence[str], segments: range) -> sa.ColumnElement[bool]:
    """Spell "in these segments, and named by one of these" so that the channel index serves each; an OR would not."""
    conditions = [sa.and_(events.c.segment.in_(segments), channels) for channels in _channels(patterns)]
    if len(conditions) == 1:
        return conditions[0]
    return events.c.position.in_(sa.union(*(sa.select(events.c.position).where(one) for one in conditions)))


def _channels(patterns: Sequence[str]) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of which an event's channel has to meet one."""
    exact = [pattern for pattern in patterns if not pattern.endswith("*")]
    ranges = [_beginning_with(pattern[:-1]) for pattern in patterns if pattern.endswith("*")]
    return [events.c.channel.in_(exact), *ranges] if exact else ranges


def _beginning_with(prefix: str) -> sa.ColumnElement[bool]:
    """Spell "begins with" as a range, which an index can serve: from the prefix up to what comes next to it."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return events.c.channel >= prefix
    follower = ord(stem[-1]) + 1
    if follower == 0xD800:  # the surrogates are no characters
        follower = 0xE000
    return sa.and_(events.c.channel >= prefix, events.c.channel < stem[:-1] + chr(follower))


def _outcome_in(outcomes: Sequence[Outcome]) -> sa.ColumnElement[bool]:
    """Spell the condition so that the partial index on unsettled intents can serve it."""
    condition: sa.ColumnElement[bool] = intents.c.outcome.in_(outcomes)
    if set(outcomes) <= set(UNSETTLED):
        unsettled = intents.c.outcome.in_([sa.literal_column(f"'{outcome.value}'") for outcome in UNSETTLED])
        condition = sa.and_(unsettled, condition)
    return condition


def _intent(row: sa.Row[Any]) -> Intent:
    return Intent(
        id=row.id,
        request=row.request,
        index=row.call_index,
        procedure=row.procedure,
        phase=row.phase,
        stage_epoch=row.stage_epoch,
        entity_key=None if row.entity is None else EntityKey(row.entity, row.key),
        input=json.decode(row.input),
        actor=row.actor,
        received=row.received,
        deadline=row.deadline,
        idempotency=row.idempotency,
        outcome=Outcome(row.outcome),
        detail=row.detail,
        settled_at=row.settled_at,
        position=row.position,
        events=row.events,
    )
