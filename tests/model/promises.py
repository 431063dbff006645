"""The promises, held against a world: what the clients heard, what the legacy did, and what the log says.

Two calls that make the same of the same note can be told apart by nobody, so either may be told in place of the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import NamedTuple

from proxy.judging import Call
from shadow import json
from shadow.events import GENESIS, EntityKey, Event, chain
from shadow.journal import UNSETTLED, Intent, Outcome
from shadow.state import State, follow
from tests.model.legacy import Fields, Row
from tests.model.notes import NOTE
from tests.model.process import standing
from tests.model.world import Proxy, Sent, World

DENIED = frozenset({Outcome.NOT_APPLIED, Outcome.REJECTED})


class Promise(StrEnum):
    """The ways in which a promise can be broken."""

    LOST = "lost"
    """G1: acknowledged, and the log does not have it."""
    REPEATED = "repeated"
    """G1: in the log, or done by the legacy under one idempotency key, more often than once."""
    INVENTED = "invented"
    """G2: an event for what the legacy did not do."""
    DENIED = "denied"
    """G3: the journal says that it was not applied, and the legacy did it."""
    UNSETTLED = "unsettled"
    """G3: nobody sees to it that its outcome will be known."""
    DISORDERED = "out of order"
    """G4: events on a note in another order than that of the legacy."""
    DRIFTED = "drifted"
    """Nobody is at work on a note, and the log has it otherwise than the legacy."""
    TORN = "torn"
    """G5: handled under two stages."""
    BROKEN = "broken"
    """The log does not add up."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was not kept, and where."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.what}"


class Change(NamedTuple):
    """A change that the legacy made to a note, and its place among them."""

    place: int
    row: Row


def violations(world: World) -> Iterator[Violation]:
    """Yield every promise that is broken in a world, whatever is under way."""
    yield from _completeness(world)
    yield from _denials(world)
    yield from _order(world)
    yield from _one_effect(world)
    if world.proxy is not None:
        yield from _in_good_hands(world, world.proxy)
        yield from _quiet(world, world.proxy)
        yield from _fence(world, world.proxy)


def violations_at_the_end(world: World) -> Iterator[Violation]:
    """Yield what is broken when everybody is back, and has had time to finish."""
    yield from violations(world)
    for intent in world.database.intents.values():
        if intent.outcome in UNSETTLED:
            yield Violation(Promise.UNSETTLED, f"intent {intent.id} is still {intent.outcome}: {intent.detail}")
    yield from _sums(world)


def _completeness(world: World) -> Iterator[Violation]:
    events = Counter(event.draft.cause for event in world.database.events)
    sent = {each.number: each for each in world.sent}
    for heard in world.heard:
        for index, done in enumerate(heard.done or ()):
            if not done:
                continue
            applied = [each for each in _tries(world, sent[heard.request], index) if each.outcome is Outcome.APPLIED]
            if not applied:
                yield Violation(Promise.LOST, f"call {index} of request {heard.request} was acknowledged")
            for intent in applied:
                if events[f"intent:{intent.id}"] != 1:
                    many = events[f"intent:{intent.id}"]
                    yield Violation(Promise.REPEATED if many else Promise.LOST, f"{_name(intent)} has {many} events")


def _tries(world: World, sent: Sent, index: int) -> list[Intent]:
    """Return the intents of a call, those of other requests with its idempotency key included."""
    return [
        intent
        for intent in world.database.intents.values()
        if intent.index == index
        and (intent.request == sent.name or (sent.key is not None and intent.idempotency == sent.key))
    ]


def _denials(world: World) -> Iterator[Violation]:
    """Count what the legacy changed and what the journal owns to, where the two cannot be told apart."""
    done: Counter[str] = Counter()
    owned: Counter[str] = Counter()
    for row in world.legacy.rows:
        if row.before != row.after:
            done[_alike(f"r{row.request}", row.call.procedure, row.call.input)] += 1
    for intent in world.database.intents.values():
        if intent.outcome not in DENIED:
            owned[_alike(intent.request, intent.procedure, intent.input)] += 1
    for what, many in done.items():
        if many > owned[what]:
            yield Violation(Promise.DENIED, f"{what}: done {many} times, and the journal owns to {owned[what]}")


def _alike(request: str, procedure: str, given: json.Json) -> str:
    """Return what a call has in common with those that can be taken for it."""
    if procedure in {"note.create", "note.draft"}:
        return f"{procedure} {json.encode(given).decode()}"
    return f"{request} on {given['id']}"


def _order(world: World) -> Iterator[Violation]:
    """Find for every event the change of the legacy that it tells of, each one's own, and none before the last.

    Calls of one request on one note count as one place: where their order makes no difference, nobody knows it.
    """
    changes: defaultdict[str, list[Change]] = defaultdict(list)
    for row in world.legacy.rows:
        before = changes[row.key]
        same = before and before[-1].row.request == row.request
        changes[row.key].append(Change(before[-1].place + (not same) if before else 1, row))
    for key, events in _by_note(world).items():
        place, untold = 0, list(changes[key])
        for event, fields in events:
            intent = _intent_of(world, event)
            fitting = _fitting(untold if intent else changes[key], intent, fields)
            following = [change for change in fitting if change.place >= place]
            if not following:
                promise = Promise.DISORDERED if fitting else Promise.INVENTED
                yield Violation(promise, f"event {event.position} {event.draft.type} ({event.draft.cause})")
                continue
            place = following[0].place
            if intent is not None:
                mine = [change for change in following if change.place == place and _is_of(change.row, intent)]
                untold.remove((mine or following)[0])


def _fitting(changes: list[Change], intent: Intent | None, fields: Fields | None) -> list[Change]:
    """Return the changes that an event may tell of, after which the note has these fields."""
    if intent is not None:
        return [change for change in changes if _tells_of(change.row, intent, fields)]
    # What was found may be what was there before anything changed.
    untouched = changes[0].row.before if changes else None
    first = [Change(0, changes[0].row)] if changes and fields == untouched else []
    return first + [change for change in changes if change.row.after == fields]


def _intent_of(world: World, event: Event) -> Intent | None:
    """Return the intent that an event is owed to; None for what was found."""
    kind, _, number = (event.draft.cause or "").partition(":")
    return world.database.intents[int(number)] if kind == "intent" else None


def _tells_of(row: Row, intent: Intent, fields: Fields | None) -> bool:
    """Tell whether an event of an intent, after which the note has these fields, may tell of a change."""
    return _is_of(row, intent) or (f"r{row.request}" == intent.request and row.after == fields)


def _is_of(row: Row, intent: Intent) -> bool:
    return row.call.procedure == intent.procedure and row.call.input == intent.input


def _by_note(world: World) -> dict[str, list[tuple[Event, Fields | None]]]:
    """Return the events on every note, each with the note as it is after it."""
    states: dict[EntityKey, State] = {}
    told: defaultdict[str, list[tuple[Event, Fields | None]]] = defaultdict(list)
    for event in world.database.events:
        key = event.draft.entity
        if key is not None:
            states[key] = follow(states.get(key), event.position, event.draft.effect, event.draft.change)
            if key.entity == NOTE.name and event.draft.cause != "import":
                told[key.key].append((event, states[key].fields))
    return told


def _one_effect(world: World) -> Iterator[Violation]:
    """Count efforts: all tries under one key are one, and the legacy may have done no more than was asked for."""
    efforts: defaultdict[str, set[object]] = defaultdict(set)
    for sent in world.sent:
        for call in sent.calls:
            efforts[_asked(call)].add((sent.key or sent.number, call.index))
    done = Counter(_asked(row.call) for row in world.legacy.rows if row.before != row.after)
    for what, many in done.items():
        if many > len(efforts[what]):
            yield Violation(Promise.REPEATED, f"{what}: asked for {len(efforts[what])} times, and done {many} times")


def _asked(call: Call) -> str:
    return f"{call.procedure} {json.encode(call.input).decode()}"


def _in_good_hands(world: World, proxy: Proxy) -> Iterator[Violation]:
    """Everything unsettled is somebody's who will settle it."""
    under_way = {request.sent.name for request in proxy.requests.values()}
    under_way |= {f"r{number}" for number in proxy.refused}
    under_way |= {f"r{owner[1]}" for owner, _ in (*proxy.asked, *proxy.reports) if owner[0] == "refused"}
    for intent in world.database.intents.values():
        if intent.outcome in UNSETTLED and intent.id not in proxy.doubts and intent.request not in under_way:
            yield Violation(Promise.UNSETTLED, f"{_name(intent)} is {intent.outcome} and nobody's")


def _quiet(world: World, proxy: Proxy) -> Iterator[Violation]:
    """Where nobody is at work the log has what the legacy has; what it does not know at all is being made."""
    held, makings = proxy.held(), proxy.makings(NOTE.name)
    known = {key for key in world.database.states if key.entity == NOTE.name}
    for key in known | {EntityKey(NOTE.name, name) for name in world.legacy.notes}:
        if key in held or (key not in known and makings):
            continue
        there, told = world.legacy.notes.get(key.key), world.database.fields(key)
        if there != told:
            yield Violation(Promise.DRIFTED, f"{key.key}: the legacy has {there}, the log {told}")


def _fence(world: World, proxy: Proxy) -> Iterator[Violation]:
    _, epoch = standing(world.database)
    for request in proxy.inside():
        if request.epoch != epoch:
            yield Violation(Promise.TORN, f"request {request.sent.number} came under {request.epoch}, now is {epoch}")


def _sums(world: World) -> Iterator[Violation]:
    """Add the log up again from its first event."""
    hash, states = GENESIS, dict[EntityKey, State]()
    for position, event in zip(count(1), world.database.events, strict=False):
        hash = chain(hash, position, event.draft)
        if event.position != position or event.hash != hash:
            yield Violation(Promise.BROKEN, f"event {event.position} is not what follows")
        if (key := event.draft.entity) is not None:
            states[key] = follow(states.get(key), position, event.draft.effect, event.draft.change)
    if states != world.database.states:
        yield Violation(Promise.BROKEN, "the states are not what the events add up to")


def _name(intent: Intent) -> str:
    return f"intent {intent.id} ({intent.procedure} of {intent.request})"
