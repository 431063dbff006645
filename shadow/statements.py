"""The statements of a batch: each takes all its rows as one JSON parameter, on both databases."""

from __future__ import annotations

from dataclasses import dataclass

from shadow.dialect import Dialect, names

_EVENT = (
    "position:int",
    "segment:int",
    "id",
    "channel",
    "type",
    "time:int",
    "data",
    "entity",
    "key",
    "effect",
    "change",
    "actor",
    "cause",
    "previous:int",
    "hash",
)
_INTENT = (
    "id:int",
    "request",
    "call_index:int",
    "procedure",
    "phase",
    "stage_epoch:int",
    "entity",
    "key",
    "input",
    "actor",
    "received:int",
    "deadline:int",
    "idempotency",
    "outcome",
    "events:int",
)
_STATE = ("entity", "key", "fields", "position:int")
_OUTCOME = ("id:int", "outcome", "detail", "settled_at:int", "position:int", "events:int")
_RESERVATION = ("idempotency", "call_index:int", "fingerprint", "intent:int", "expires:int", "received:int")
_ANSWER = ("idempotency", "call_index:int", "intent:int", "answer")
_FREED = ("idempotency", "call_index:int", "intent:int")


@dataclass(frozen=True, slots=True)
class Statements:
    """SQL for one dialect."""

    advance: str
    """Moves the log's own row on, if it is where it was last seen: two writers can never both commit."""
    insert_events: str
    insert_intents: str
    upsert_states: str
    settle_intents: str
    expire_answers: str
    reserve_answers: str
    keep_answers: str
    free_answers: str
    read_states: str
    read_standings: str
    read_known: str

    @classmethod
    def of(cls, dialect: Dialect) -> Statements:
        """Spell the statements for `dialect`."""
        rows = dialect.rows
        mark = dialect.mark
        return cls(
            advance=f"UPDATE log SET position = {mark}, hash = {mark}, last_intent = {mark}, batch = {mark}, "
            f"writer = {mark} WHERE one = 1 AND batch = {mark}",
            insert_events=f"INSERT INTO events ({names(*_EVENT)}) {rows(*_EVENT)}",
            insert_intents=f"INSERT INTO intents ({names(*_INTENT)}) {rows(*_INTENT)}",
            upsert_states=f"INSERT INTO states ({names(*_STATE)}) {rows(*_STATE)} WHERE true "
            'ON CONFLICT (entity, "key") DO UPDATE SET fields = excluded.fields, position = excluded.position',
            settle_intents="UPDATE intents SET outcome = new.outcome, detail = new.detail, "
            "settled_at = new.settled_at, position = new.position, events = new.events "
            f"FROM ({rows(*_OUTCOME)}) AS new WHERE intents.id = new.id",
            expire_answers="DELETE FROM answers WHERE (idempotency, call_index) IN ("
            f"SELECT old.idempotency, old.call_index FROM ({rows(*_RESERVATION)}) AS new "
            "JOIN answers AS old ON old.idempotency = new.idempotency AND old.call_index = new.call_index "
            "WHERE old.expires <= new.received)",
            reserve_answers=f"INSERT INTO answers (idempotency, call_index, fingerprint, intent, expires) "
            f"SELECT idempotency, call_index, fingerprint, intent, expires FROM ({rows(*_RESERVATION)}) AS new",
            keep_answers=f"UPDATE answers SET answer = new.answer FROM ({rows(*_ANSWER)}) AS new "
            "WHERE answers.idempotency = new.idempotency AND answers.call_index = new.call_index "
            "AND answers.intent = new.intent",
            free_answers=f"DELETE FROM answers WHERE (idempotency, call_index, intent) IN ({rows(*_FREED)})",
            read_states='SELECT wanted.entity, wanted."key", states.fields, states.position '
            f"FROM ({rows('entity', 'key')}) AS wanted "
            'LEFT JOIN states ON states.entity = wanted.entity AND states."key" = wanted."key"',
            read_standings="SELECT intents.id, outcome, idempotency, call_index, position, events "
            f"FROM ({rows('id:int')}) AS wanted JOIN intents ON intents.id = wanted.id",
            read_known=f"SELECT events.id, events.position FROM ({rows('id')}) AS wanted "
            "JOIN events ON events.id = wanted.id",
        )
