"""What one transaction will write, decided without touching the database.

Commands are added one by one; one that cannot be done raises, and leaves the batch as it was, so that its
neighbours are not harmed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shadow import json
from shadow.dialect import Row
from shadow.errors import DraftRefused, IntentUnknown, PositionConflict
from shadow.events import Draft, Effect, EntityKey, Event, chain
from shadow.journal import WITH_EVENTS, NewIntent, Outcome, Settlement, moves
from shadow.schema import SEGMENT
from shadow.state import Fields, State, follow


class Head(msgspec.Struct, frozen=True):
    """Where a log stands after its last transaction."""

    position: int
    hash: str
    last_intent: int
    batch: int


class Standing(msgspec.Struct, frozen=True):
    """Where an intent stands: its outcome and the positions of the events that it led to."""

    outcome: Outcome
    idempotency: str | None = None
    index: int = 0
    first: int = 0
    events: int = 0


class Begin(msgspec.Struct, frozen=True):
    """Record intents, all or none."""

    intents: Sequence[NewIntent]

    def decide(self, batch: Batch) -> Decided:
        """Add what is to be written to a batch."""
        return batch.begin(self.intents)


class Settle(msgspec.Struct, frozen=True):
    """Record outcomes with their events, all or none."""

    settlements: Sequence[Settlement]

    def decide(self, batch: Batch) -> Decided:
        """Add what is to be written to a batch."""
        return batch.settle(self.settlements)


class Append(msgspec.Struct, frozen=True):
    """Append events, all or none, provided that the entities in `expected` are where the caller saw them.

    And provided that the channels in `unmoved` have no event after these positions.
    """

    drafts: Sequence[Draft]
    expected: Mapping[EntityKey, int]
    unmoved: Mapping[str, int] = msgspec.field(default_factory=dict)

    def decide(self, batch: Batch) -> Decided:
        """Add what is to be written to a batch."""
        return batch.append(self.drafts, self.expected, self.unmoved)


class Dropped(msgspec.Struct, frozen=True):
    """An event whose data are dropped; `effect` and `change` make up for it, so that later states still add up."""

    position: int
    effect: Effect
    change: Fields | None


class Forget(msgspec.Struct, frozen=True):
    """Forget the kept answers that have expired at a time."""

    now: int

    def decide(self, batch: Batch) -> Decided:
        """Add what is to be written to a batch."""
        return batch.forget(self.now)


class Thin(msgspec.Struct, frozen=True):
    """Drop what events say, without touching their positions and hashes."""

    dropped: Sequence[Dropped]

    def decide(self, batch: Batch) -> Decided:
        """Add what is to be written to a batch."""
        return batch.thin(self.dropped)


Command = Begin | Settle | Append | Forget | Thin


class Span(msgspec.Struct, frozen=True):
    """Events that were in the log before: `count` of them from `first` on."""

    first: int
    count: int


Decided = tuple[int, ...] | list[Event | Span]
"""What a command comes to if its batch is written: the ids of intents, or events."""


class Batch:
    """The rows of one transaction, and the head that it leads to.

    `state_of` and `standing_of` answer for everything committed before; ids in `known` (event id → position)
    are in the log already and are not appended again; `last_of` holds the positions of the last events of channels.
    """

    def __init__(
        self,
        head: Head,
        state_of: Callable[[EntityKey], State | None],
        standing_of: Callable[[int], Standing | None],
        known: Mapping[str, int],
        last_of: Mapping[str, int] | None = None,
    ) -> None:
        self._number = head.batch + 1
        self._position = head.position
        self._hash = head.hash
        self._last_intent = head.last_intent
        self.events: list[Event] = []
        self.states: dict[EntityKey, State] = {}
        self.standings: dict[int, Standing] = {}
        self.event_rows: list[Row] = []
        self.intent_rows: list[Row] = []
        self.outcome_rows: list[Row] = []
        self.claim_rows: list[Row] = []
        self.reservation_rows: list[Row] = []
        self.answer_rows: list[Row] = []
        self.freed_rows: list[Row] = []
        self.expired_rows: list[Row] = []
        self.thinned_rows: list[Row] = []
        self._state_of = state_of
        self._standing_of = standing_of
        self._places = dict(known)
        self._last_of = dict(last_of or {})

    @property
    def head(self) -> Head:
        """Where the log stands after this batch."""
        return Head(self._position, self._hash, self._last_intent, self._number)

    @property
    def empty(self) -> bool:
        """Tell whether there is nothing to write."""
        return not (self.event_rows or self.intent_rows or self.outcome_rows or self.expired_rows or self.thinned_rows)

    def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Add intents; returns their ids."""
        first = self._last_intent + 1
        rows = [_intent_row(id, intent) for id, intent in enumerate(intents, first)]
        for id, intent in enumerate(intents, first):
            self.standings[id] = Standing(Outcome.OPEN, intent.idempotency, intent.index)
            if intent.idempotency is not None:
                name = (intent.idempotency, intent.index)
                self.claim_rows.append((*name, intent.received))
                self.reservation_rows.append((*name, intent.fingerprint, id, intent.keep_until))
        self.intent_rows += rows
        self._last_intent += len(rows)
        return tuple(range(first, first + len(rows)))

    def settle(self, settlements: Sequence[Settlement]) -> list[Event | Span]:
        """Add outcomes and their events; an intent that has its outcome already gets the events that it led to."""
        found: list[Event | Span] = []
        moving: list[tuple[Settlement, Standing]] = []
        outcomes: dict[int, Outcome] = {}
        for settlement in settlements:
            standing = self._standing(settlement.intent)
            current = outcomes.get(settlement.intent, standing.outcome)
            _check(settlement)
            if moves(current, settlement.outcome):
                moving.append((settlement, standing))
                outcomes[settlement.intent] = settlement.outcome
            elif standing.events:
                found.append(Span(standing.first, standing.events))
        appended = self._append([draft for settlement, _ in moving for draft in settlement.drafts])
        place = 0
        for settlement, standing in moving:
            mine = appended[place : place + len(settlement.drafts)]
            place += len(mine)
            self._move(settlement, standing, mine)
        return found + appended

    def append(
        self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int], unmoved: Mapping[str, int] | None = None
    ) -> list[Event | Span]:
        """Add events; raises PositionConflict when an entity or channel is not where the caller saw it."""
        for channel, position in (unmoved or {}).items():
            here = (event.position for event in reversed(self.events) if event.draft.channel == channel)
            actual = next(here, self._last_of.get(channel, 0))
            if actual > position:
                raise PositionConflict(f"channel {channel}", position, actual)
        for key, position in expected.items():
            state = self._state(key)
            actual = state.position if state else 0
            if actual != position:
                raise PositionConflict(f"{key.entity} {key.key}", position, actual)
        return self._append(drafts)

    def forget(self, now: int) -> list[Event | Span]:
        """Forget expired answers."""
        self.expired_rows.append((now,))
        return []

    def thin(self, dropped: Sequence[Dropped]) -> list[Event | Span]:
        """Drop what events say."""
        for each in dropped:
            change = None if each.change is None else _text(each.change)
            self.thinned_rows.append((each.effect, change, each.position))
        return []

    def _append(self, drafts: Sequence[Draft]) -> list[Event | Span]:
        # What can be refused is refused before anything is added.
        texts = [_texts(draft) for draft in drafts]
        return [self._append_one(draft, mine) for draft, mine in zip(drafts, texts, strict=True)]

    def _append_one(self, draft: Draft, texts: tuple[str, str | None]) -> Event | Span:
        if place := self._places.get(draft.id):
            return Span(place, 1)
        self._position = position = self._position + 1
        self._hash = hash = chain(self._hash, position, draft)
        event = Event(position, draft, hash)
        previous = None
        if draft.entity is not None:
            before = self._state(draft.entity)
            previous = before.position if before else 0
            self.states[draft.entity] = follow(before, position, draft.effect, draft.change)
        self.event_rows.append(_event_row(event, texts, previous))
        self.events.append(event)
        self._places[draft.id] = position
        return event

    def _move(self, settlement: Settlement, standing: Standing, events: Sequence[Event | Span]) -> None:
        first = min([event.position if isinstance(event, Event) else event.first for event in events], default=0)
        id, outcome = settlement.intent, settlement.outcome
        self.standings[id] = Standing(outcome, standing.idempotency, standing.index, first, len(events))
        self.outcome_rows.append((id, _TEXT[outcome], settlement.detail, settlement.at, first or None, len(events)))
        if standing.idempotency is not None:
            name = (standing.idempotency, standing.index, id)
            refused_unkept = outcome is Outcome.REJECTED and settlement.answer is None
            if outcome is Outcome.NOT_APPLIED or refused_unkept:
                self.freed_rows.append(name)
            elif settlement.answer is not None:
                self.answer_rows.append((*name, base64.b64encode(settlement.answer).decode()))

    def _state(self, key: EntityKey) -> State | None:
        return self.states.get(key) or self._state_of(key)

    def _standing(self, intent: int) -> Standing:
        standing = self.standings.get(intent) or self._standing_of(intent)
        if standing is None:
            raise IntentUnknown(f"there is no intent {intent} in this log")
        return standing


_TEXT: dict[str, str] = {member: member.value for member in (*Outcome, *Effect)}
"""Members as plain texts, which a database takes; an enum's `value` is found in a slower way."""


def _check(settlement: Settlement) -> None:
    if settlement.drafts and settlement.outcome not in WITH_EVENTS:
        raise DraftRefused(f"intent {settlement.intent}: an outcome of {settlement.outcome.value} has no events")
    if settlement.detail is not None:
        _refuse_nul(settlement.detail)


def _event_row(event: Event, texts: tuple[str, str | None], previous: int | None) -> Row:
    draft = event.draft
    entity, key = draft.entity or (None, None)
    return (
        event.position,
        event.position // SEGMENT,
        draft.id,
        draft.channel,
        draft.type,
        draft.time,
        texts[0],
        entity,
        key,
        _TEXT[draft.effect],
        texts[1],
        draft.actor,
        draft.cause,
        previous,
        event.hash,
    )


def _intent_row(id: int, intent: NewIntent) -> Row:
    entity, key = intent.entity_key or (None, None)
    _refuse_nul(intent.request, intent.procedure, entity, key, intent.actor, intent.idempotency, intent.fingerprint)
    return (
        id,
        intent.request,
        intent.index,
        intent.procedure,
        intent.phase,
        intent.stage_epoch,
        entity,
        key,
        _text(intent.input),
        intent.actor,
        intent.received,
        intent.deadline,
        intent.idempotency,
        _TEXT[Outcome.OPEN],
        0,
    )


def refuse(intent: NewIntent) -> None:
    """Raise DraftRefused when no database can hold an intent."""
    _intent_row(0, intent)


def _texts(draft: Draft) -> tuple[str, str | None]:
    _refuse_nul(draft.id, draft.channel, draft.type, draft.actor, draft.cause, *(draft.entity or ()))
    return _text(draft.data), None if draft.change is None else _text(draft.change)


def _text(value: json.Json) -> str:
    try:
        return json.encode(value).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DraftRefused(f"this is not JSON: {error}") from error


def _refuse_nul(*texts: str | None) -> None:
    together = "".join(filter(None, texts))
    if "\0" not in together and together.isascii():
        return
    for text in texts:
        if text is not None and ("\0" in text or not _encodable(text)):
            raise DraftRefused(f"a name must be valid Unicode without NUL characters: {text!r}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
