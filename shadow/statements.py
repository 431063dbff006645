"""The statements of a batch. Each takes all its rows at once, so that one call into the database serves a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shadow.dialect import Dialect, Row, execute


@dataclass(frozen=True)
class Statement:
    """SQL that finds its rows in a table `new` with these columns, integers being marked as `name:int`."""

    columns: tuple[str, ...]
    body: str

    def __post_init__(self) -> None:
        names = ", ".join(column.removesuffix(":int") for column in self.columns)
        object.__setattr__(self, "body", self.body.replace("{columns}", names))


def run(connection: sa.Connection, dialect: Dialect, statement: Statement, rows: Sequence[Row]) -> list[Any]:
    """Carry out a statement for all rows and return what it returns."""
    found: list[Any] = []
    for start in range(0, len(rows), dialect.most_rows):
        some = rows[start : start + dialect.most_rows]
        sql = dialect.with_rows(statement.columns, len(some)) + statement.body
        cursor = execute(connection, sql, dialect.parameters(some))
        if cursor.description is not None:
            found += cursor.fetchall()
    return found


INSERT_EVENTS = Statement(
    (
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
    ),
    "INSERT INTO events ({columns}) SELECT {columns} FROM new",
)
INSERT_INTENTS = Statement(
    (
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
    ),
    "INSERT INTO intents ({columns}) SELECT {columns} FROM new",
)
UPSERT_STATES = Statement(
    ("entity", "key", "fields", "position:int"),
    "INSERT INTO states ({columns}) SELECT {columns} FROM new WHERE true "
    "ON CONFLICT (entity, key) DO UPDATE SET fields = excluded.fields, position = excluded.position",
)
SETTLE_INTENTS = Statement(
    ("id:int", "outcome", "detail", "settled_at:int", "position:int", "events:int"),
    "UPDATE intents SET outcome = new.outcome, detail = new.detail, settled_at = new.settled_at, "
    "position = new.position, events = new.events FROM new WHERE intents.id = new.id",
)
EXPIRE_ANSWERS = Statement(
    ("idempotency", "call_index:int", "received:int"),
    "DELETE FROM answers WHERE (idempotency, call_index) IN (SELECT old.idempotency, old.call_index FROM new "
    "JOIN answers AS old ON old.idempotency = new.idempotency AND old.call_index = new.call_index "
    "WHERE old.expires <= new.received)",
)
RESERVE_ANSWERS = Statement(
    ("idempotency", "call_index:int", "fingerprint", "intent:int", "expires:int"),
    "INSERT INTO answers ({columns}) SELECT {columns} FROM new",
)
KEEP_ANSWERS = Statement(
    ("idempotency", "call_index:int", "intent:int", "answer"),
    "UPDATE answers SET answer = new.answer FROM new WHERE answers.idempotency = new.idempotency "
    "AND answers.call_index = new.call_index AND answers.intent = new.intent",
)
FREE_ANSWERS = Statement(
    ("idempotency", "call_index:int", "intent:int"),
    "DELETE FROM answers WHERE (idempotency, call_index, intent) IN (SELECT {columns} FROM new)",
)
DROP_EXPIRED = Statement(
    ("now:int",),
    "DELETE FROM answers WHERE expires <= (SELECT max(now) FROM new)",
)
THIN_EVENTS = Statement(
    ("effect", "change", "position:int"),
    "UPDATE events SET data = '', effect = new.effect, change = new.change, actor = NULL, cause = 'retention' "
    "FROM new WHERE events.position = new.position",
)
READ_STATES = Statement(
    ("entity", "key"),
    "SELECT new.entity, new.key, states.fields, states.position FROM new "
    "LEFT JOIN states ON states.entity = new.entity AND states.key = new.key",
)
READ_STANDINGS = Statement(
    ("id:int",),
    "SELECT intents.id, outcome, idempotency, call_index, position, events FROM new "
    "JOIN intents ON intents.id = new.id",
)
READ_KNOWN = Statement(
    ("id",),
    "SELECT events.id, events.position FROM new JOIN events ON events.id = new.id",
)
