"""What a look at the legacy proves about a call that nobody answered: pure decisions, no I/O.

A call in doubt is told by the fields in which the state before it and the state predicted after it differ. If the
legacy shows these fields as predicted, the call was applied; if it shows them as before, it was not; anything else
is a fact of its own, and is recorded as found. Differences elsewhere are not this call's: the reconciler finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import permutations
from typing import TypeAlias

from shadow import json
from shadow.contract import Entity
from shadow.contract.rules import Unpredictable
from shadow.events import Draft, Effect, EntityKey
from shadow.journal import ANSWERED, QUARANTINED, Intent, Outcome
from shadow.json import Json

Fields = dict[str, Json]

OBSERVED = "entity-observed"
"""The type of an event that records an entity as the legacy shows it, because nobody knows how it came so."""


Change: TypeAlias = Callable[[Fields | None], Fields | Unpredictable | None]
"""What a call makes of an entity."""

MOST_OTHERS = 4
"""Calls of one request in doubt on one entity, beside the one in question, of which every order is tried."""


class CannotTell(Exception):
    """The doubt cannot be resolved as things are; the message is a short code."""


class Sign(Enum):
    """What one entity tells about a call."""

    APPLIED = "applied"
    """It is as predicted, and was not before."""
    NOT_APPLIED = "not_applied"
    """It is as before, and would not be."""
    SAME = "same"
    """The call would have changed nothing, and nothing is changed."""
    OTHER = "other"
    """It is neither, or the two cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Look:
    """One entity before a call, as predicted after it, and as the legacy shows it now; all in clear.

    `known` is False when the log cannot vouch for `before`: no event ever named the entity. `shown` are the fields
    that the read shows at all.
    """

    entity: Entity
    key: EntityKey
    before: Fields | None
    predicted: Fields | Unpredictable | None
    found: Fields | None
    shown: frozenset[str]
    known: bool = True


def sign(look: Look) -> Sign:
    """Return what the entity tells about the call."""
    before, predicted, found = look.before, look.predicted, look.found
    if isinstance(predicted, Unpredictable):
        return Sign.OTHER if differs(look) else Sign.SAME
    if not look.known and found is not None:
        return Sign.OTHER
    match before, predicted:
        case None, None:
            return Sign.SAME if found is None else Sign.OTHER
        case None, _:
            if found is None:
                return Sign.NOT_APPLIED
            return Sign.APPLIED if _shows(look, predicted or {}, found) else Sign.OTHER
        case _, None:
            return Sign.APPLIED if found is None else Sign.NOT_APPLIED
    return Sign.OTHER if found is None else _sign_by_difference(look, before or {}, predicted or {}, found)


def differs(look: Look) -> bool:
    """Tell whether the legacy shows the entity otherwise than the log has it."""
    if look.before is None or look.found is None:
        return look.before is not look.found
    return not all(alike(look.entity, field, look.before.get(field), look.found.get(field)) for field in look.shown)


def alike(entity: Entity, field: str, ours: Json, shown: Json) -> bool:
    """Tell whether the legacy, holding the value `ours`, could show `shown`: in clear, or by the field's mask."""
    ours, shown = _present(entity, field, ours), _present(entity, field, shown)
    if _equal(ours, shown):
        return True
    masks = [mask for mask in entity.masks if mask.field == field]
    return isinstance(ours, str) and any(mask.apply(ours) == shown for mask in masks)


def verdict(signs: Iterable[Sign], *, superseded: bool = False) -> tuple[Outcome, str]:
    """Return what became of a call by what its entities tell, and why; there is at least one.

    `superseded`: another call has changed one of them meanwhile, so that seeing no trace of this one proves nothing.
    """
    told = set(signs)
    assert told
    if told <= {Sign.NOT_APPLIED, Sign.SAME}:
        if superseded:
            return Outcome.OBSERVED, "superseded"
        return Outcome.NOT_APPLIED, "no_difference" if told == {Sign.SAME} else "as_before"
    if told <= {Sign.APPLIED, Sign.SAME}:
        return Outcome.APPLIED, "as_predicted"
    return Outcome.OBSERVED, "as_found"


def supersedes(cause: str | None, intent: Intent, request_of: Callable[[int], str | None]) -> bool:
    """Tell whether an event with this cause is that of a call which may have been applied after `intent` was.

    So may every call that came later, and every other one of the same request: the legacy runs them in any order.
    """
    kind, _, name = (cause or "").partition(":")
    if kind == "order":
        return name == intent.request
    if kind not in {"intent", "doubt"} or not name.isdigit():
        return False
    other = int(name)
    return other > intent.id or (other != intent.id and request_of(other) == intent.request)


def undone(look: Look, mine: Change, others: Sequence[Change]) -> bool:
    """Tell whether the call may have been applied, though the entity is as it was before.

    So it is when other calls of its request, of which nobody knows either, may have undone it, in whatever order.
    """
    if len(others) > MOST_OTHERS:
        return True
    for many in range(1, len(others) + 1):
        for some in permutations(others, many):
            for place in range(many + 1):
                after = look.before
                for change in (*some[:place], mine, *some[place:]):
                    changed = change(after)
                    if isinstance(changed, Unpredictable):
                        return True
                    after = changed
                if not differs(replace(look, before=after)):
                    return True
    return False


def correction(look: Look, *, cause: str, channel: str, now: int, id: str, actor: str | None) -> Draft:
    """Return the event that puts the entity into the log as it was found."""
    fields = None if look.found is None else _settled(look, look.found)
    shown = None if fields is None else {name: fields[name] for name in fields if name not in look.entity.secret}
    return Draft(
        id=id,
        channel=channel,
        type=OBSERVED,
        time=now,
        data={"entity": look.key.entity, "key": look.key.key, "fields": shown},
        entity=look.key,
        effect=Effect.DELETE if fields is None else Effect.PUT,
        change=fields,
        actor=actor,
        cause=cause,
    )


def may_still_run(reason: str | None) -> bool:
    """Tell whether the call of a doubt may not have ended yet: the legacy never said anything about it."""
    return reason is None or not reason.startswith((ANSWERED, QUARANTINED, "contract:"))


FORWARDED_WITHIN = 30_000
"""Milliseconds from a call's intent until it is forwarded at the latest: for the commit, and for a connection."""


def may_run_until(deadline: int, max_request: int, doubted: int) -> int:
    """Return until when a call may be applied that nobody answered; all in milliseconds.

    `deadline` is its intent's, `max_request` after the intent was written. It may have been forwarded later than
    that, though not after it was `doubted`: nothing is forwarded any more then.
    """
    return min(deadline - max_request + FORWARDED_WITHIN, doubted) + max_request


def _sign_by_difference(look: Look, before: Fields, predicted: Fields, found: Fields) -> Sign:
    entity = look.entity
    changed = [
        name
        for name in entity.fields
        if not _equal(_present(entity, name, before.get(name)), _present(entity, name, predicted.get(name)))
    ]
    if not changed:
        return Sign.SAME
    # Two secrets behind one mask do not tell the states apart, but may show that it is neither.
    shown = [name for name in changed if name in look.shown]
    if all(_same_mask(entity, name, before.get(name), predicted.get(name)) for name in shown):
        return Sign.OTHER
    if all(alike(entity, name, predicted.get(name), found.get(name)) for name in shown):
        return Sign.APPLIED
    if all(alike(entity, name, before.get(name), found.get(name)) for name in shown):
        return Sign.NOT_APPLIED
    return Sign.OTHER


def _shows(look: Look, expected: Fields, found: Fields) -> bool:
    return all(alike(look.entity, name, expected[name], found.get(name)) for name in expected if name in look.shown)


def _settled(look: Look, found: Fields) -> Fields:
    """Return the fields as found; what the read does not show, or only masked, is taken from what we know."""
    fields = {name: value for name, value in (look.before or {}).items() if name not in look.shown}
    guesses = [state for state in (look.predicted, look.before) if isinstance(state, dict)]
    for name, value in found.items():
        fitting = [state[name] for state in guesses if name in state and alike(look.entity, name, state[name], value)]
        masked = any(mask.field == name for mask in look.entity.masks)
        unambiguous = fitting and all(_equal(fitting[0], other) for other in fitting)
        fields[name] = fitting[0] if masked and unambiguous else value
    return fields


def _same_mask(entity: Entity, field: str, one: Json, other: Json) -> bool:
    if not (isinstance(one, str) and isinstance(other, str)):
        return False
    return any(mask.apply(one) == mask.apply(other) for mask in entity.masks if mask.field == field)


def _present(entity: Entity, field: str, value: Json) -> Json:
    return None if value == "" and field in entity.blank else value


def _equal(one: Json, other: Json) -> bool:
    if type(one) is type(other) and not isinstance(one, dict | list):
        return bool(one == other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other and isinstance(one, bool) == isinstance(other, bool)
    return json.encode(one) == json.encode(other)
