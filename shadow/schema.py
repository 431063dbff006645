"""The tables of the log, the same on SQLite and PostgreSQL.

Three choices keep the cost of a write independent of how much was written before:

* Events of one entity are linked backwards (`events.previous`) from the position of its state, so a history needs no
  index that every append would have to touch in a random place.
* States are written behind the events (see `shadow.folding`): each would dirty a page of its own.
* The channel index begins with a *segment*, a run of positions. Appends touch only the index pages of the
  newest segment; a reader of one channel looks once into each segment.
"""

from __future__ import annotations

import sqlalchemy as sa

SEGMENT = 128
"""How many consecutive positions share a segment of the channel index: few enough for its newest pages to be few."""

whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits; named INTEGER on SQLite so that a primary key is the row's own number."""

name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that sorts by code point on both databases, so that pages and prefixes agree."""

metadata = sa.MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)

log = sa.Table(
    "log",
    metadata,
    sa.Column("one", whole, primary_key=True, autoincrement=False, comment="always 1: a database holds one log"),
    sa.Column("epoch", sa.Text, nullable=False, comment="random name given at birth; part of every cursor"),
    sa.Column("position", whole, nullable=False, comment="of the last event"),
    sa.Column("hash", sa.Text, nullable=False, comment="of the last event"),
    sa.Column("last_intent", whole, nullable=False),
    sa.Column("batch", whole, nullable=False, comment="number of the last committed transaction"),
    sa.Column("writer", sa.Text, nullable=False, comment="random name of the process that committed it"),
    sa.Column("folded", whole, nullable=False, server_default="0", comment="position up to which `states` is complete"),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("position", whole, primary_key=True, autoincrement=False),
    sa.Column("segment", whole, nullable=False),
    sa.Column("id", name, nullable=False, unique=True),
    sa.Column("channel", name, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("time", whole, nullable=False),
    sa.Column("data", sa.Text, nullable=False, comment="JSON"),
    sa.Column("entity", name),
    sa.Column("key", name),
    sa.Column("effect", sa.Text, nullable=False),
    sa.Column("change", sa.Text, comment="JSON"),
    sa.Column("actor", sa.Text),
    sa.Column("cause", sa.Text),
    sa.Column("previous", whole, comment="position of the entity's event before this one; 0 for its first"),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index(None, "segment", "channel"),
)

states = sa.Table(
    "states",
    metadata,
    sa.Column("entity", name, primary_key=True),
    sa.Column("key", name, primary_key=True),
    sa.Column("fields", sa.Text, comment="JSON; null: the entity is not there (deleted, or never made)"),
    sa.Column("position", whole, nullable=False, comment="of the entity's last event"),
    sqlite_with_rowid=False,
)

intents = sa.Table(
    "intents",
    metadata,
    sa.Column("id", whole, primary_key=True, autoincrement=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("call_index", whole, nullable=False, comment="of the call in its batch"),
    sa.Column("procedure", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, comment="null: the contract has no rule for this mutation"),
    sa.Column("stage_epoch", whole, nullable=False),
    sa.Column("entity", sa.Text),
    sa.Column("key", sa.Text),
    sa.Column("input", sa.Text, nullable=False, comment="JSON, sealed by the caller"),
    sa.Column("actor", sa.Text),
    sa.Column("received", whole, nullable=False),
    sa.Column("deadline", whole, nullable=False, comment="after this the call can no longer apply"),
    sa.Column("idempotency", sa.Text),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("detail", sa.Text),
    sa.Column("settled_at", whole),
    sa.Column("position", whole, comment="of the first event that it led to"),
    sa.Column("events", whole, nullable=False, comment="how many events it led to"),
)
unsettled = intents.c.outcome.in_(["open", "in_doubt"])
sa.Index("ix_intents_unsettled", intents.c.id, sqlite_where=unsettled, postgresql_where=unsettled)

answers = sa.Table(
    "answers",
    metadata,
    sa.Column("idempotency", name, primary_key=True),
    sa.Column("call_index", whole, primary_key=True, autoincrement=False),
    sa.Column("fingerprint", sa.Text, comment="of the request, to tell a retry from a key used twice"),
    sa.Column("intent", whole, nullable=False),
    sa.Column("answer", sa.Text, comment="base64; null while the first request is running or in doubt"),
    sa.Column("expires", whole, nullable=False, index=True),
    sqlite_with_rowid=False,
)
