"""What the events of an entity add up to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import msgspec

from shadow.events import Effect, EntityKey
from shadow.json import Json

Fields = dict[str, Json]


class State(msgspec.Struct, frozen=True):
    """An entity after its event at `position`; `fields` is None when it is not there (deleted, or never made).

    Fields are shared, not copied: whoever reads them must not change them.
    """

    fields: Fields | None
    position: int


def fold(fields: Fields | None, effect: Effect, change: Fields | None) -> Fields | None:
    """Return the fields after an event. Never fails: whatever the legacy did, the log can follow.

    A patch of an entity that is not there leaves it so, as an UPDATE of a row that does not exist does.
    """
    match effect:
        case Effect.CREATE | Effect.PUT:
            return change or {}
        case Effect.PATCH:
            return fields if fields is None or not change else {**fields, **change}
        case Effect.DELETE:
            return None
        case Effect.NONE:
            return fields


def follow(state: State | None, position: int, effect: Effect, change: Fields | None) -> State:
    """Return the state that an entity has after its event at `position`."""
    return State(fold(None if state is None else state.fields, effect, change), position)


class StateCache:
    """The states used last, and those that the table does not have yet; shared by the writer's thread and the loop.

    Only committed states go in. A state that was read from the database may be older than what was committed
    meanwhile; `remember` drops it then.
    """

    def __init__(self, capacity: int) -> None:
        self._states: OrderedDict[EntityKey, State | None] = OrderedDict()
        self._unwritten: dict[EntityKey, State] = {}
        self._of_entity: dict[str, dict[EntityKey, State]] = {}
        self._capacity = capacity
        self._lock = threading.Lock()
        self.generation = 0
        """Counts commits; take it before reading the database."""

    def __contains__(self, key: EntityKey) -> bool:
        return key in self._states or key in self._unwritten

    @property
    def unwritten(self) -> Mapping[EntityKey, State]:
        """The states that are newer than the database's table; only the thread that commits may look."""
        return self._unwritten

    def newer(self, entity: str) -> Mapping[EntityKey, State]:
        """Return the states of a kind of entity that are newer than the database's table, as they are now."""
        with self._lock:
            return dict(self._of_entity.get(entity, ()))

    def get(self, key: EntityKey) -> State | None:
        """Return the state of `key`; raises KeyError when it is not cached (None means: no event names it)."""
        with self._lock:
            try:
                self._states.move_to_end(key)
            except KeyError:
                return self._unwritten[key]
            return self._states[key]

    def commit(self, states: Mapping[EntityKey, State], written: Iterable[EntityKey] = ()) -> None:
        """Take over what a transaction has just committed; it has put the states of `written` into the table."""
        with self._lock:
            self.generation += 1
            self._unwritten.update(states)
            for key, state in states.items():
                self._of_entity.setdefault(key.entity, {})[key] = state
            for key in written:
                del self._unwritten[key], self._of_entity[key.entity][key]
            self._put(states.items())

    def remember(self, states: Mapping[EntityKey, State | None], generation: int) -> None:
        """Keep what was read from the database, unless there was a commit since `generation`."""
        with self._lock:
            if generation == self.generation:
                self._put(states.items())

    def clear(self) -> None:
        """Forget everything; used when another process may have written meanwhile."""
        with self._lock:
            self.generation += 1
            self._states.clear()
            self._unwritten.clear()
            self._of_entity.clear()

    def _put(self, states: Iterable[tuple[EntityKey, State | None]]) -> None:
        for key, state in states:
            self._states[key] = state
            self._states.move_to_end(key)
        while len(self._states) > self._capacity:
            self._states.popitem(last=False)
