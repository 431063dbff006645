"""The log's database as a value: what is durable, and no more. What a transaction writes, the real batch decides."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from shadow.batch import Append, Batch, Begin, Head, Settle, Standing
from shadow.errors import KeyReused, LogError
from shadow.events import GENESIS, EntityKey, Event
from shadow.journal import Intent, KeptAnswer, NewIntent, Outcome
from shadow.state import State

Command = Begin | Settle | Append
Result = tuple[int, ...] | None | LogError
"""What a command came to: the ids of its intents, nothing, or the error that its caller gets."""

BIRTH: Final = Head(0, GENESIS, 0, 0)


@dataclass(frozen=True, slots=True)
class Database:
    """Everything that a crash leaves of the proxy."""

    head: Head = BIRTH
    events: tuple[Event, ...] = ()
    states: Mapping[EntityKey, State] = field(default_factory=dict)
    standings: Mapping[int, Standing] = field(default_factory=dict)
    intents: Mapping[int, Intent] = field(default_factory=dict)
    answers: Mapping[tuple[str, int], KeptAnswer] = field(default_factory=dict)

    def answer(self, idempotency: str, index: int, now: int) -> KeptAnswer | None:
        """Return what is kept under a key and index; here nothing expires."""
        return self.answers.get((idempotency, index))

    def intent(self, id: int) -> Intent | None:
        """Return one intent."""
        return self.intents.get(id)

    def request_of(self, id: int) -> str | None:
        """Return the request that an intent is of."""
        intent = self.intents.get(id)
        return None if intent is None else intent.request

    def state(self, key: EntityKey) -> State | None:
        """Return the state of an entity; None when no event ever named it."""
        return self.states.get(key)

    def fields(self, key: EntityKey) -> dict[str, Any] | None:
        """Return an entity's fields; None when it is not there."""
        state = self.states.get(key)
        return None if state is None else state.fields

    def position(self, key: EntityKey) -> int:
        """Return the position of the last event on an entity; 0 when there is none."""
        state = self.states.get(key)
        return 0 if state is None else state.position

    def cause(self, key: EntityKey) -> str | None:
        """Return what led to the last event on an entity."""
        position = self.position(key)
        return self.events[position - 1].draft.cause if position else None


def write(database: Database, commands: Sequence[Command]) -> tuple[Database, tuple[Result, ...]]:
    """Return the database after one transaction, and what each command came to; one that fails harms no other."""
    places = {event.draft.id: event.position for event in database.events}
    batch = Batch(database.head, database.states.get, database.standings.get, places)
    begun: dict[int, Intent] = {}
    results = tuple([_decide(database, batch, command, begun) for command in commands])
    intents = _settled({**database.intents, **begun}, batch)
    written = replace(
        database,
        head=batch.head,
        events=(*database.events, *batch.events),
        states={**database.states, **batch.states},
        standings={**database.standings, **batch.standings},
        intents=intents,
        answers=_answers(database, batch),
    )
    return written, results


def _decide(database: Database, batch: Batch, command: Command, begun: dict[int, Intent]) -> Result:
    try:
        match command:
            case Begin(intents):
                _claim(database, batch, intents)
                ids = batch.begin(intents)
                begun.update({id: _intent(id, new) for id, new in zip(ids, intents, strict=True)})
                return ids
            case Settle(settlements):
                batch.settle(settlements)
            case Append(drafts, expected):
                batch.append(drafts, expected)
    except LogError as error:
        return error
    return None


def _claim(database: Database, batch: Batch, intents: Iterable[NewIntent]) -> None:
    """Raise KeyReused where the database's unique index would refuse a reservation."""
    taken = database.answers.keys() | {(row[0], row[1]) for row in batch.reservation_rows}
    if any((new.idempotency, new.index) in taken for new in intents):
        raise KeyReused("an idempotency key is used again while its first answer is kept")


def _intent(id: int, new: NewIntent) -> Intent:
    return Intent(
        id=id,
        request=new.request,
        index=new.index,
        procedure=new.procedure,
        phase=new.phase,
        stage_epoch=new.stage_epoch,
        entity_key=new.entity_key,
        input=new.input,
        actor=new.actor,
        received=new.received,
        deadline=new.deadline,
        idempotency=new.idempotency,
        outcome=Outcome.OPEN,
        detail=None,
        settled_at=None,
        position=None,
        events=0,
    )


def _settled(intents: dict[int, Intent], batch: Batch) -> dict[int, Intent]:
    rows: Sequence[Any] = batch.outcome_rows
    for id, outcome, detail, at, position, events in rows:
        intents[id] = replace(
            intents[id], outcome=Outcome(outcome), detail=detail, settled_at=at, position=position, events=events
        )
    return intents


def _answers(database: Database, batch: Batch) -> dict[tuple[str, int], KeptAnswer]:
    """Return the answers after the statements of a transaction, in the order in which the writer runs them."""
    answers = dict(database.answers)
    reserved: Sequence[Any] = batch.reservation_rows
    kept_rows: Sequence[Any] = batch.answer_rows
    freed: Sequence[Any] = batch.freed_rows
    for key, index, fingerprint, intent, until in reserved:
        answers[key, index] = KeptAnswer(intent, fingerprint, None, until)
    for key, index, intent, answer in kept_rows:
        kept = answers.get((key, index))
        if kept is not None and kept.intent == intent:
            answers[key, index] = replace(kept, answer=base64.b64decode(answer))
    for key, index, intent in freed:
        kept = answers.get((key, index))
        if kept is not None and kept.intent == intent:
            del answers[key, index]
    return answers
