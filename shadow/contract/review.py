"""What is not wrong in a contract, but leaves something unproven, unordered or open."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from shadow.contract.entities import Entity
from shadow.contract.model import Contract
from shadow.contract.problems import Problem
from shadow.contract.rules import EventRule, Rule, Tap
from shadow.events import Effect
from shadow.expressions import Expression, literal_keys, literal_start


def review(contract: Contract, today: date) -> tuple[Problem, ...]:
    """Return warnings about a valid contract, by line; each says what it costs and what to write."""
    found = [*_entities(contract, today), *_rules(contract), *_channels(contract)]
    return tuple(sorted(found, key=lambda problem: problem.line))


def _problem(contract: Contract, where: str, message: str, hint: str) -> Problem:
    return Problem(contract.source, where, contract.lines.get(where, 0), message, hint)


def _entities(contract: Contract, today: date) -> Iterator[Problem]:
    written = {field for event in _events(contract) if event.entity for field in _written(event)}
    for entity in contract.entities.values():
        yield from _reading(contract, entity)
        for field in entity.fields:
            if (entity.name, field) not in written:
                message = f"no event sets the field {field!r}, so it only ever comes from an import"
                yield _problem(contract, entity.where, message, "set it in an event, or leave it out of the fields")
        for index, rule in enumerate(entity.ignore):
            if rule.expired(today):
                message = f"has expired on {rule.expires}: the difference counts again"
                hint = f"ask {rule.owner} whether it is still meant"
                yield _problem(contract, f"{entity.where}.ignore[{index}]", message, hint)
        for mask in entity.masks:
            if mask.field not in entity.secret:
                message = f"{mask.field!r} is masked by the legacy, but kept in clear"
                yield _problem(contract, entity.where, message, f'write secret = ["{mask.field}"]')


def _reading(contract: Contract, entity: Entity) -> Iterator[Problem]:
    if entity.list is None:
        message = "has no `list`, so it can be neither backfilled nor compared as a whole"
        yield _problem(contract, entity.where, message, 'write list = { query = "…" }')
    if entity.get is None:
        message = "has no `get`, so the outcome of a lost call on it can only be found in a listing"
        if entity.list is None:
            message = "has no `get` and no `list`, so the outcome of a lost call on it cannot be found out"
        yield _problem(contract, entity.where, message, 'write get = { query = "…", input = "{…: key}" }')


def _rules(contract: Contract) -> Iterator[Problem]:
    for rule in contract.mutations.values():
        created = [event for event in rule.events if event.key and "output" in event.key.variables]
        if created and rule.find is None:
            message = "only its answer tells which entity it made, so when an answer is lost nobody can find out"
            yield _problem(contract, rule.where, message, f'write [{rule.where}.find] with query = "…" and match = "…"')
    for each in _all(contract):
        if not each.python and not any(event.entity for event in each.events):
            message = "concerns no entity: its calls have no order among themselves and nothing to be compared with"
            yield _problem(contract, each.where, message, 'write entity = "…" and key = "…"')
        yield from _fields(contract, each)


def _fields(contract: Contract, rule: Rule | Tap) -> Iterator[Problem]:
    for event in rule.events:
        changes = event.effect in {Effect.CREATE, Effect.PUT, Effect.PATCH}
        keys = literal_keys(event.change or event.data)
        if changes and event.entity and keys is not None and not keys & event.entity.fields.keys():
            message = f"sets none of the fields of {event.entity.name!r}"
            yield _problem(contract, event.where, message, f"its fields are: {', '.join(event.entity.fields)}")


def _channels(contract: Contract) -> Iterator[Problem]:
    mirrored = {event.type: event for event in _events(contract)}
    for channel in contract.channels:
        for published in channel.publish:
            if published.type in mirrored:
                message = (
                    f"clients may publish {published.type!r}, which says what a mutation did: they could make it up"
                )
                yield _problem(
                    contract, f'channel."{channel.pattern}"', message, "give what clients publish a name of its own"
                )
    for event in mirrored.values():
        start = literal_start(event.channel)
        if start and contract.channel_rules(start) is None:
            message = f"no channel pattern names {start!r}…, so everybody may see {event.type!r}"
            yield _problem(contract, event.where, message, f'write [channel."{start}*"] with see = …')


def _events(contract: Contract) -> Iterator[EventRule]:
    for rule in _all(contract):
        yield from rule.events


def _all(contract: Contract) -> list[Rule | Tap]:
    return [*contract.mutations.values(), *contract.taps.values()]


def _written(event: EventRule) -> Iterator[tuple[str, str]]:
    """Yield the fields that an event may set; all of them where that cannot be told."""
    if event.entity is None or event.effect in {Effect.DELETE, Effect.NONE}:
        return
    source: Expression = event.change or event.data
    keys = literal_keys(source)
    for field in event.entity.fields if keys is None else keys:
        yield event.entity.name, field
