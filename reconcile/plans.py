"""From the contract to what a run needs: how each kind of entity is read, and what counts as a difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from reconcile.compare import Fields, Ignore, Mask, Rules
from reconcile.errors import ReconcileError
from reconcile.legacy import EntityKind, Listing, Single
from reconcile.passes import Plan
from shadow.contract import Contract, Entity, Rule, Tap
from shadow.contract.entities import Item
from shadow.contract.rules import BEFORE
from shadow.json import Json
from shadow.secrets import Keyring

NULL_IS_ABSENT: Final = ("*",)
"""The contract's rule for all entities: a field that is null and a field that is absent are the same."""


def plans(
    contract: Contract,
    *,
    phases: Sequence[str] = (),
    entities: Sequence[str] = (),
    volatile: Sequence[str] = (),
    keyring: Keyring | None = None,
) -> tuple[Plan, ...]:
    """Return a plan for every kind of entity that is wanted, all of them when nothing is named.

    Raises ReconcileError for a phase or an entity that the contract does not have. A kind that the contract gives
    no way to read gets a plan all the same, so that nobody believes it was compared.
    """
    _known("phase", phases, contract.phases)
    _known("entity", entities, contract.entities)
    return tuple(
        plan_for(contract, entity, volatile, keyring)
        for entity in contract.entities.values()
        if (not phases or entity.phase in phases) and (not entities or entity.name in entities)
    )


def plan_for(contract: Contract, entity: Entity, volatile: Sequence[str] = (), keyring: Keyring | None = None) -> Plan:
    """Return the plan for one kind of entity; `volatile` are paths as in `session.updatedAt`."""
    prefix = f"{entity.name}."
    return Plan(
        kind=kind_of(entity),
        phase=entity.phase,
        rules=Rules(
            masks=tuple((mask.field, Mask(mask.keep, mask.text)) for mask in entity.masks),
            absent_is_null=NULL_IS_ABSENT,
            ignored=tuple(
                Ignore(entity.name, rule.field, rule.owner, rule.reason, rule.expires.isoformat())
                for rule in entity.ignore
            ),
            volatile=tuple(path.removeprefix(prefix) for path in volatile if path.startswith(prefix)),
            secret=entity.secret,
            keyring=keyring,
        ),
        comparable=entity.comparable,
        keyless=frozenset(
            rule.procedure for rule in contract.mutations.values() if _may_touch_unnamed(rule, entity.name)
        ),
        streamed=any(_writes(tap, entity.name) for tap in contract.taps.values()),
    )


def kind_of(entity: Entity) -> EntityKind:
    """Return how one kind of entity is read."""

    def key_of(item: Item) -> str:
        return entity.key_of(item.value, item.name)

    def fields_of(item: Item) -> Fields:
        return entity.comparable(entity.fields_of(item.value, item.name))

    def item_of(output: Json, key: str) -> Item | None:
        value = single.item_of(output, key) if single else None
        return None if value is None else Item(key, value)

    listing, single = entity.list, entity.get
    return EntityKind(
        name=entity.name,
        key_of=_plain_key(entity, key_of) or key_of,
        fields_of=_plain_fields(entity, fields_of) or fields_of,
        listing=None
        if listing is None
        else Listing(
            query=listing.query,
            input=listing.input_for,
            items=listing.items_of,
            cursor=listing.cursor_after,
            partial=bool(listing.lacks),
        ),
        single=None
        if single is None
        else Single(
            query=single.query,
            input=single.input_for,
            item=item_of,
        ),
    )


# The two below do what the contract's expressions do, for the forms that nearly every contract has. They are asked
# once for each entity of the legacy, so they are most of what a comparison costs.


def _plain_key(entity: Entity, otherwise: Callable[[Item], str]) -> Callable[[Item], str] | None:
    """Return a quick way to the key if it is a member of the item, as in `item.id`."""
    member = re.fullmatch(r"item\.([A-Za-z_]\w*)", entity.key.source.strip())
    if member is None:
        return None
    name = member[1]

    def key_of(item: Item) -> str:
        found = item.value.get(name) if type(item.value) is dict else None
        return found if type(found) is str else otherwise(item)

    return key_of


def _plain_fields(entity: Entity, otherwise: Callable[[Item], Fields]) -> Callable[[Item], Fields] | None:
    """Return a quick way to the fields if they are members of the item and none of them may be blank."""
    if entity.blank or any(expression is not None for expression in entity.fields.values()):
        return None
    names = tuple(entity.fields)

    def fields_of(item: Item) -> Fields:
        if type(item.value) is not dict:
            return otherwise(item)
        get = item.value.get
        return {name: value for name in names if (value := get(name)) is not None}

    return fields_of


def _may_touch_unnamed(rule: Rule, entity: str) -> bool:
    """Tell whether a rule may lead to an event on this kind of entity under a key that its intent does not name.

    An intent names one key at most: the first of those that are known before the call.
    """
    if rule.python is not None:
        return True
    touching = [event for event in rule.events if event.entity is not None and event.entity.name == entity]
    if not touching:
        return False
    keyed = [event.key for event in rule.events if event.key is not None]
    one_key = len({key.source for key in keyed}) == 1 and all(event.each is None for event in rule.events)
    return not (one_key and keyed[0].variables <= BEFORE)


def _writes(tap: Tap, entity: str) -> bool:
    touches = any(event.durable and event.entity is not None and event.entity.name == entity for event in tap.events)
    return touches or tap.python is not None


def _known(what: str, wanted: Sequence[str], there: Mapping[str, object]) -> None:
    for name in wanted:
        if name not in there:
            raise ReconcileError(f"the contract has no {what} {name!r}; it has {', '.join(sorted(there)) or 'none'}")
