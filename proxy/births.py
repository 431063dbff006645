"""Creates in doubt whose key only their answer would have told: which of the entities that turned up are theirs.

Nobody can look such an entity up. What the legacy shows and the log does not know was made by *some* create; all
creates in doubt are considered together, so that each entity is attributed once. Pure decisions, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from proxy.verdict import CannotTell, Fields, Sign, alike
from shadow.contract import Entity, ExpressionError
from shadow.contract.rules import EventRule
from shadow.journal import Intent
from shadow.json import Json

SKEW = 60_000
"""How far apart, in milliseconds, the legacy's clock and ours are believed to be at most."""

MOST_STRANGERS = 20
"""Unknown entities that one create in doubt may bring into the log; with more it is quarantined."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entity that the legacy has and the log does not know: some create made it."""

    key: str
    fields: Fields
    item: Json


@dataclass(frozen=True, slots=True)
class Create:
    """A create in doubt: what the entity that it would have made looks like in a list, as far as that can be known.

    `guessed` tells that this is not from the contract but from fields of the input that have the names of fields.
    """

    intent: int
    entity: Entity
    received: int
    wanted: Fields
    guessed: bool

    def made(self, candidate: Candidate) -> bool:
        """Tell whether it can have made the candidate."""
        if born_before(candidate.item, self.received - SKEW):
            return False
        return all(
            alike(self.entity, field, value, candidate.fields.get(field)) for field, value in self.wanted.items()
        )


def pair(creates: Sequence[Create], candidates: Sequence[Candidate]) -> dict[int, Candidate]:
    """Attribute as many candidates as can be, each to one create, the earlier creates first; by intent."""
    owner: dict[int, int] = {}

    def place(create: int, tried: set[int]) -> bool:
        for number, candidate in enumerate(candidates):
            if number in tried or not creates[create].made(candidate):
                continue
            tried.add(number)
            if number not in owner or place(owner[number], tried):
                owner[number] = create
                return True
        return False

    for number in range(len(creates)):
        place(number, set())
    return {creates[create].intent: candidates[number] for number, create in owner.items()}


class Birth(NamedTuple):
    """What became of a create: the entity that it made, or, with `Sign.OTHER`, those that it may have made."""

    want: Create
    found: Sequence[Candidate]
    sign: Sign


def attribute(want: Create, others: Iterable[Create], strangers: Sequence[Candidate]) -> Birth:
    """Attribute the strangers to all creates in doubt; return this one's, or what nobody can be attributed to.

    Those come first of which most is known: a guess would take what is theirs. Raises `CannotTell` when there are too
    many that nobody can be attributed to.
    """
    pairs = pair(sorted([want, *others], key=_vagueness), strangers)
    if want.intent in pairs:
        return Birth(want, [pairs[want.intent]], Sign.APPLIED)
    taken = {candidate.key for candidate in pairs.values()}
    fresh = [one for one in strangers if one.key not in taken and _anything(want).made(one)]
    if not want.guessed or not fresh:
        return Birth(want, [], Sign.NOT_APPLIED)
    if len(fresh) > MOST_STRANGERS:
        raise CannotTell("unidentified")
    return Birth(want, fresh, Sign.OTHER)


def create_of(event: EventRule, given: Json, intent: Intent) -> Create:
    """Return what the entity that a create in doubt would have made looks like."""
    assert event.entity is not None
    entity = event.entity
    source = event.data if event.change is None else event.change
    values: dict[str, Json] = {"input": given, "now": intent.received, "item": None, "state": None}
    shape, guessed = given, True
    if source.variables <= values.keys():
        with suppress(ExpressionError):
            shape, guessed = event.value(source, values, "set"), False
    fields = entity.comparable(entity.change_from(shape)) if isinstance(shape, dict) else {}
    hidden = entity.list.lacks if entity.list is not None else frozenset()
    wanted = {name: value for name, value in fields.items() if name not in hidden}
    return Create(intent.id, entity, intent.received, wanted, guessed)


def born_before(item: Json, moment: int) -> bool:
    """Tell whether an item shows that it was there before a moment (milliseconds).

    Its time of creation says so if it shows one, else the latest of all times that it shows.
    """
    if not isinstance(item, dict):
        return False
    times = {name: time for name, value in item.items() if (time := _time(value)) is not None}
    created = [time for name, time in times.items() if name.lower().startswith("creat")]
    return max(created or times.values(), default=moment) < moment


def _vagueness(create: Create) -> tuple[bool, int]:
    return create.guessed, -len(create.wanted)


def _anything(want: Create) -> Create:
    """Return a create at the same time that could have made any entity of the kind."""
    return Create(want.intent, want.entity, want.received, {}, guessed=True)


def _time(value: Json) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if 1e12 <= value < 4e12:
            return int(value)
        return int(value * 1000) if 1e9 <= value < 4e9 else None
    if not isinstance(value, str) or len(value) < len("2026-01-01T00:00") or value[4:5] != "-":
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
