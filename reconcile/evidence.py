"""What the log and the journal know, read while the proxy goes on writing them.

Every method is one read transaction, so what it returns belongs together. Nothing is ever written or locked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from reconcile.compare import Fields, Mark, parts
from shadow import json
from shadow.dialect import dialect_of, execute
from shadow.events import Cursor, EntityKey, Event
from shadow.journal import UNSETTLED
from shadow.json import Json
from shadow.reader import At, Reader, newer_states
from shadow.schema import events, intents, log, states
from shadow.stages import Stage, stages_in
from shadow.state import State

CHUNK: Final = 400
"""How many keys one statement names; SQLite allows 999 parameters on old builds."""
IMPORTS: Final = "app:import"
"""The channel of imports: subscribers of an entity's own channel are not told of a change that is none."""
IMPORT_COMPLETED: Final = "import-completed"


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """An intent that is not settled: `key` is None when nobody knows yet what it will touch."""

    id: int
    phase: str | None
    key: EntityKey | None
    procedure: str
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the log stood: taken before the legacy is read."""

    position: int
    last_intent: int
    unsettled: tuple[OpenIntent, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the log said of some keys, and where it stood then: taken after the legacy was read."""

    moment: Moment
    states: Mapping[str, tuple[str | None, int]]
    """Fields, as the JSON text that the log keeps, and position by key; a key that never had an event is not in it.

    The text is deterministic, so an equal text settles a comparison without reading it.
    """
    begun: tuple[OpenIntent, ...]
    """Intents with a known key begun since the moment before, settled or not."""

    def fields(self, key: str) -> Fields | None:
        """Return the projected fields, None when the entity is not there."""
        fields: Fields | None = _decoded(self.states.get(key, (None, 0))[0])
        return fields

    def position(self, key: str) -> int:
        """Return the position of the key's last event, 0 when it never had one."""
        return self.states.get(key, (None, 0))[1]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What `reconcile.compare.decide` needs to know about one key around one read of the legacy."""

    before: Mark
    after: Mark
    came_and_went: tuple[int, ...]
    keyless: tuple[int, ...]
    doubtful: tuple[int, ...]


def surroundings(entity: EntityKey, keyless_procedures: frozenset[str], before: Moment, after: Reading) -> Surroundings:
    """Work out the marks of one key from the two moments around the read. Pure.

    `keyless_procedures` are those that may touch this kind of entity under a key that their intent does not name.
    """
    position = after.position(entity.key)
    around = {intent.id: intent for intent in (*before.unsettled, *after.moment.unsettled)}
    named = {number for number, intent in around.items() if intent.key == entity}
    keyless = {number for number, intent in around.items() if intent.procedure in keyless_procedures} - named
    return Surroundings(
        # The key's position before the read is not looked up: it is either the one found after, or it moved.
        before=Mark(min(position, before.position), _numbers(before.unsettled, named)),
        after=Mark(position, _numbers(after.moment.unsettled, named)),
        came_and_went=tuple(intent.id for intent in after.begun if intent.key == entity),
        keyless=tuple(sorted(keyless)),
        doubtful=tuple(sorted(number for number in named | keyless if around[number].in_doubt)),
    )


def stirred(entity: str, before: Moment, after: Reading) -> frozenset[str]:
    """Return the keys of a kind that an intent named at either moment or in between. Pure.

    For every other key whose position is not after `before` the two moments are as good as one: what `surroundings`
    and `decide` would say key by key, for a whole page at once.
    """
    around = (*before.unsettled, *after.moment.unsettled, *after.begun)
    return frozenset(intent.key.key for intent in around if intent.key is not None and intent.key.entity == entity)


def _numbers(among: Sequence[OpenIntent], wanted: set[int]) -> tuple[int, ...]:
    return tuple(intent.id for intent in among if intent.id in wanted)


@dataclass(frozen=True, slots=True)
class PastIntent:
    """One intent of a key, for a finding."""

    id: int
    procedure: str
    outcome: str
    detail: str | None
    received: int
    input: Json
    request: str = ""
    """Calls of one batch share it."""


@dataclass(slots=True)
class Past:
    """What is remembered of one key, newest first."""

    events: list[Event] = field(default_factory=list)
    intents: list[PastIntent] = field(default_factory=list)
    unmapped: list[PastIntent] = field(default_factory=list)
    """Recent calls that the contract has no rule for and that name the key somewhere in their input."""


class Evidence:
    """Reads one log; safe while another process writes it."""

    def __init__(self, reader: Reader, engine: sa.Engine) -> None:
        self._reader = reader
        self._engine = engine

    @classmethod
    @contextmanager
    def open(cls, url: str) -> Iterator[Evidence]:
        """Open the log at `url` beside whatever writes it; raises DatabaseRefused and its kinds."""
        reader = Reader.open_for_reading(url)
        engine = dialect_of(url).readers()
        try:
            yield cls(reader, engine)
        finally:
            engine.dispose()
            reader.release()

    def stages(self) -> Mapping[str, Stage]:
        """Return where the phases stand that ever had a stage."""
        return {standing.phase: standing.stage for standing in stages_in(self._reader)}

    @property
    def head(self) -> Cursor:
        """The cursor of the last event."""
        return self._reader.head

    def moment(self) -> Moment:
        """Return where the log stands now."""
        with self._snapshot() as connection:
            return _moment(connection)

    def reading(self, entity: str, keys: Sequence[str], since: Moment) -> Reading:
        """Return the projected states of `keys` and everything begun `since`."""
        with self._snapshot() as connection:
            moment, lagging = _moment_and_lag(connection)
            found: dict[str, tuple[str | None, int]] = {}
            for chunk in chunks(keys):
                rows = execute(connection, _states_of(_on_sqlite(connection), len(chunk)), (entity, *chunk)).fetchall()
                found.update({key: (fields, position) for key, fields, position in rows})
                if lagging:
                    newer = newer_states(connection, events.c.entity == entity, events.c.key.in_(chunk))
                    found.update({key.key: (_encoded(state.fields), state.position) for key, state in newer.items()})
            # Nothing was begun as long as the journal is as long as it was.
            begun: Iterable[_IntentRow] = ()
            if moment.last_intent > since.last_intent:
                begun = connection.execute(_BEGUN, {"since": since.last_intent, "entity": entity})
            return Reading(moment, found, tuple(map(_open_intent, begun)))

    def keys(self, entity: str) -> Iterator[list[str]]:
        """Yield the keys of all entities of a kind that are there, in order, some at a time."""
        last: str | None = ""
        while last is not None:
            with self._snapshot() as connection:
                # The table may lag behind the events.
                newer = newer_states(connection, events.c.entity == entity, events.c.key > last)
                keys = list(connection.execute(_KEYS, {"entity": entity, "last": last}).scalars())
            end = keys[-1] if len(keys) == _KEYS_AT_ONCE else None
            if newer:
                there = set(keys)
                for key, state in newer.items():
                    if end is None or key.key <= end:
                        (there.discard if state.fields is None else there.add)(key.key)
                keys = sorted(there)
            if keys:
                yield keys
            last = end

    def unlisted(self, entity: str, listed: AbstractSet[str], there: int, position: int) -> list[str]:
        """Return the keys of all entities of a kind that are there and not `listed`.

        `there` of those listed were there while the log stood at `position`.
        """
        with self._snapshot() as connection:
            moment, lagging = _moment_and_lag(connection)
            # If it still stands there and has no more of them than were listed, it has no other: counting says so.
            if moment.position == position and not lagging:
                count = connection.execute(_COUNT, {"entity": entity}).scalar_one()
                if count == there:
                    return []
        return [key for keys in self.keys(entity) for key in keys if key not in listed]

    def changed(self, entity: str, since: int, limit: int) -> list[str]:
        """Return the keys of a kind with an event after position `since`, those changed last first."""
        newest = sa.func.max(events.c.position).label("newest")
        query = (
            sa.select(events.c.key, newest)
            .where(events.c.position > since, events.c.entity == entity)
            .group_by(events.c.key)
            .order_by(newest.desc())
            .limit(limit)
        )
        with self._snapshot() as connection:
            return [row.key for row in connection.execute(query)]

    def touched(self, ids: Sequence[int]) -> tuple[frozenset[int], dict[EntityKey, int]]:
        """Return which of these intents are still unsettled, and which keys the settled ones turned out to touch."""
        with self._snapshot() as connection:
            rows = connection.execute(
                sa.select(intents.c.id, intents.c.outcome, intents.c.position, intents.c.events).where(
                    intents.c.id.in_(ids)
                )
            ).all()
            pending = frozenset(row.id for row in rows if row.outcome in _UNSETTLED)
            keys: dict[EntityKey, int] = {}
            for row in rows:
                if row.position is None or not row.events:
                    continue
                made = connection.execute(
                    sa.select(events.c.entity, events.c.key).where(
                        events.c.position.between(row.position, row.position + row.events - 1),
                        events.c.key.is_not(None),
                    )
                )
                keys.update({EntityKey(event.entity, event.key): row.id for event in made})
            return pending, keys

    def past(self, keys: Sequence[EntityKey], limit: int = 10) -> dict[EntityKey, Past]:
        """Return all events and the newest `limit` intents of each key."""
        if not keys:
            return {}
        found = {key: Past(events=self._reader.history(key)[::-1]) for key in keys}
        # The journal has no index by key, for every mutation would pay for it: one pass serves all keys.
        with self._snapshot() as connection:
            for chunk in chunks(sorted({key.key for key in keys})):
                rows = connection.execute(
                    sa.select(intents).where(intents.c.key.in_(chunk)).order_by(intents.c.id.desc())
                )
                for row in rows:
                    past = found.get(EntityKey(row.entity, row.key))
                    if past is not None and len(past.intents) < limit:
                        past.intents.append(_past_intent(row))
            unmapped = connection.execute(_UNMAPPED).all()
        for row in unmapped:
            named = {part for part in parts(_decoded(row.input)) if isinstance(part, str)}
            for key, past in found.items():
                if key.key in named:
                    past.unmapped.append(_past_intent(row))
        return found

    def imported(self, entity: str) -> bool:
        """Tell whether the whole list of this kind was imported at some time."""
        done = self._reader.read([IMPORTS], after=0, limit=1000, types=[IMPORT_COMPLETED])
        return any(event.draft.data.get("entity") == entity for event in done)

    def states_at(self, at: At) -> Mapping[EntityKey, State]:
        """Return the states of all entities at a moment; reads the whole log."""
        return self._reader.states_at(at)

    def history(self, key: EntityKey) -> list[Event]:
        """Return all events of a key, oldest first."""
        return self._reader.history(key)

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """Read everything as of one moment, whatever is committed meanwhile."""
        with self._engine.connect() as connection:
            # The engine is in autocommit, where each statement would see another moment.
            execute(connection, "BEGIN" if _on_sqlite(connection) else "BEGIN ISOLATION LEVEL REPEATABLE READ")
            try:
                yield connection
            finally:
                execute(connection, "ROLLBACK")


def chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a list of keys into parts that fit into one statement."""
    return (keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK))


_IntentRow: TypeAlias = Any
"""The columns of `_INTENTS`."""
_UNSETTLED: Final = tuple(outcome.value for outcome in UNSETTLED)
_INTENTS: Final[sa.Select[Any]] = sa.select(
    intents.c.id, intents.c.phase, intents.c.entity, intents.c.key, intents.c.procedure, intents.c.outcome
)
_UNMAPPED: Final = (
    sa.select(intents).where(intents.c.phase.is_(None), intents.c.outcome == "applied").order_by(intents.c.id.desc())
).limit(1000)
_BEGUN: Final = _INTENTS.where(
    intents.c.id > sa.bindparam("since"), intents.c.entity == sa.bindparam("entity"), intents.c.key.is_not(None)
)
_KEYS_AT_ONCE: Final = 5 * CHUNK
_KEYS: Final = (
    sa.select(states.c.key)
    .where(
        states.c.entity == sa.bindparam("entity"),
        states.c.key > sa.bindparam("last"),
        states.c.fields.is_not(None),
    )
    .order_by(states.c.key)
    .limit(_KEYS_AT_ONCE)
)
_COUNT: Final = (
    sa.select(sa.func.count())
    .select_from(states)
    .where(states.c.entity == sa.bindparam("entity"), states.c.fields.is_not(None))
)

# These are asked at every look, so they go to the driver as they are; see `shadow.dialect.execute`.
_HEAD: Final = str(sa.select(log.c.position, log.c.last_intent, log.c.folded))
# Written as the partial index is, so that the database uses it.
_PENDING: Final = str(
    _INTENTS.where(intents.c.outcome.in_([sa.literal_column(f"'{outcome}'") for outcome in _UNSETTLED])).order_by(
        intents.c.id
    )
)


@cache
def _states_of(on_sqlite: bool, count: int) -> str:
    """Return the statement that takes a kind of entity and so many of its keys."""
    mark = "?" if on_sqlite else "%s"
    marks = ", ".join([mark] * count)
    # Spelled from constants; values are always parameters.
    return f"SELECT key, fields, position FROM states WHERE entity = {mark} AND key IN ({marks})"  # noqa: S608


def _on_sqlite(connection: sa.Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _moment(connection: sa.Connection) -> Moment:
    return _moment_and_lag(connection)[0]


def _moment_and_lag(connection: sa.Connection) -> tuple[Moment, bool]:
    """Return where the log stands, and whether its table of states lags behind its events."""
    head = execute(connection, _HEAD).fetchone()
    unsettled = tuple(map(_open_intent, execute(connection, _PENDING).fetchall()))
    if head is None:
        return Moment(0, 0, unsettled), False
    position, last_intent, folded = head
    return Moment(position, last_intent, unsettled), folded < position


def _open_intent(row: _IntentRow) -> OpenIntent:
    number, phase, entity, key, procedure, outcome = row
    named = None if key is None else EntityKey(entity, key)
    return OpenIntent(number, phase, named, procedure, outcome == "in_doubt")


def _past_intent(row: sa.Row[Any]) -> PastIntent:
    return PastIntent(row.id, row.procedure, row.outcome, row.detail, row.received, _decoded(row.input), row.request)


def _encoded(fields: Fields | None) -> str | None:
    return None if fields is None else json.encode(fields).decode()


def _decoded(text: str | None) -> Json:
    return None if text is None else json.decode(text)
