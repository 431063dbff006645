"""The legacy's state in a file: taken where the legacy can be reached, compared where it cannot, as in CI.

The form: `{"schema": "changeover.legacy-dump/1", "first_position": 40, "last_position": 42, "entities": {"session":
{"s1": {"title": "A"}}}}`. The positions are those at which the log stood when the dump began and ended; what changed
between the two stays unverified. Without positions the dump is compared with the log as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconcile.compare import Fields, kept
from reconcile.errors import ReconcileError
from reconcile.evidence import Evidence, Moment, Reading
from reconcile.legacy import EntityKind, Legacy, Traversal
from reconcile.passes import Plan
from shadow import json
from shadow.events import EntityKey
from shadow.reader import At

SCHEMA: Final = "changeover.legacy-dump/1"


@dataclass(frozen=True, slots=True)
class Dump:
    """What the legacy said of its entities, by kind and key, and where the log stood meanwhile."""

    entities: Mapping[str, Mapping[str, Fields]]
    first_position: int | None = None
    last_position: int | None = None

    def as_text(self) -> str:
        """Return what `read` reads."""
        return json.encode(
            {
                "schema": SCHEMA,
                "first_position": self.first_position,
                "last_position": self.last_position,
                "entities": self.entities,
            }
        ).decode()


def read(path: Path) -> Dump:
    """Read a dump; raises ReconcileError with what is wrong."""
    try:
        value = json.decode(path.read_bytes())
    except OSError as error:
        raise ReconcileError(f"cannot read the dump {path}: {error.strerror}") from None
    except json.JsonError as error:
        raise ReconcileError(f"the dump {path} is not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(value.get("entities"), dict):
        raise ReconcileError(f'the dump {path} is none: it begins with {{"schema": "{SCHEMA}", "entities": {{…}}}}')
    return Dump(value["entities"], value.get("first_position"), value.get("last_position"))


async def take(legacy: Legacy, plans: Sequence[Plan], evidence: Evidence | None) -> Dump:
    """Read everything that the contract can read from the legacy. Secrets in clear become their masks."""
    first = None if evidence is None else evidence.head.position
    entities = {plan.kind.name: await _all(legacy, plan) for plan in plans if plan.kind.listing is not None}
    last = None if evidence is None else evidence.head.position
    return Dump(entities, first, last)


async def _all(legacy: Legacy, plan: Plan) -> dict[str, Fields]:
    kind = plan.kind
    found: dict[str, Fields] = {}
    async for page in legacy.pages(kind, Traversal()):
        shown: Mapping[str, Fields | None] = page
        if kind.listing is not None and kind.listing.partial and kind.single is not None:
            whole = await asyncio.gather(*(legacy.one(kind, key) for key in page))
            shown = dict(zip(page, whole, strict=True))
        found.update({key: kept(fields, plan.rules) for key, fields in shown.items() if fields is not None})
    return found


class DumpedLegacy:
    """A legacy that is a dump; every read is the same."""

    requests = 0

    def __init__(self, dump: Dump, plans: Sequence[Plan]) -> None:
        comparable = {plan.kind.name: plan.comparable for plan in plans}
        self._entities = {
            name: {key: comparable[name](fields) for key, fields in entities.items()}
            for name, entities in dump.entities.items()
            if name in comparable
        }

    async def pages(self, kind: EntityKind, traversal: Traversal) -> AsyncIterator[Mapping[str, Fields]]:
        """Yield everything at once."""
        entities = self._of(kind)
        traversal.seen.update(entities)
        yield entities

    async def one(self, kind: EntityKind, key: str) -> Fields | None:
        """Return what the dump has of one entity."""
        return self._of(kind).get(key)

    def _of(self, kind: EntityKind) -> Mapping[str, Fields]:
        if kind.name not in self._entities:
            raise ReconcileError(
                f"the dump has nothing of {kind.name!r}; take it with the same contract, or leave it out with --entity"
            )
        return self._entities[kind.name]


class FrozenLog:
    """The log as it was while a dump was taken."""

    def __init__(self, evidence: Evidence, dump: Dump) -> None:
        head = evidence.head.position
        self._first = head if dump.first_position is None else dump.first_position
        self._last = head if dump.last_position is None else dump.last_position
        if self._last > head:
            raise ReconcileError(
                f"the dump was taken at position {self._last}, and this log ends at {head}: it belongs to another log"
            )
        self._states: dict[str, dict[str, tuple[str | None, int]]] = {}
        for key, state in evidence.states_at(At(position=self._last)).items():
            text = None if state.fields is None else json.encode(state.fields).decode()
            self._states.setdefault(key.entity, {})[key.key] = (text, state.position)

    def moment(self) -> Moment:
        """Return where the log stood when the dump began."""
        return Moment(self._first, 0, ())

    def reading(self, entity: str, keys: Sequence[str], since: Moment) -> Reading:
        """Return the states when the dump ended."""
        known = self._states.get(entity, {})
        return Reading(Moment(self._last, 0, ()), {key: known[key] for key in keys if key in known}, ())

    def keys(self, entity: str) -> Iterable[list[str]]:
        """Return the keys that were there when the dump ended."""
        yield [key for key, (fields, _) in self._states.get(entity, {}).items() if fields is not None]

    def unlisted(self, entity: str, listed: AbstractSet[str], there: int, position: int) -> list[str]:
        """Return the keys that were there when the dump ended and are not `listed`."""
        return [key for keys in self.keys(entity) for key in keys if key not in listed]

    def touched(self, ids: Sequence[int]) -> tuple[frozenset[int], Mapping[EntityKey, int]]:
        """Return that nothing was going on."""
        return frozenset(), {}
