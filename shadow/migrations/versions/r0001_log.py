"""The first schema: log, events, states, intents, answers (expand)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make all tables."""
    _log()
    _events()
    _states()
    _intents()
    _answers()


def downgrade() -> None:
    """Drop all tables."""
    for table in ("answers", "intents", "states", "events", "log"):
        op.drop_table(table)


def _log() -> None:
    op.create_table(
        "log",
        sa.Column("one", _whole, primary_key=True, autoincrement=False, comment="always 1: a database holds one log"),
        sa.Column("epoch", sa.Text, nullable=False, comment="random name given at birth; part of every cursor"),
        sa.Column("position", _whole, nullable=False, comment="of the last event"),
        sa.Column("hash", sa.Text, nullable=False, comment="of the last event"),
        sa.Column("last_intent", _whole, nullable=False),
        sa.Column("batch", _whole, nullable=False, comment="number of the last committed transaction"),
        sa.Column("writer", sa.Text, nullable=False, comment="random name of the process that committed it"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("position", _whole, primary_key=True, autoincrement=False),
        sa.Column("segment", _whole, nullable=False),
        sa.Column("id", _name, nullable=False),
        sa.Column("channel", _name, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("time", _whole, nullable=False),
        sa.Column("data", sa.Text, nullable=False, comment="JSON"),
        sa.Column("entity", _name),
        sa.Column("key", _name),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("change", sa.Text, comment="JSON"),
        sa.Column("actor", sa.Text),
        sa.Column("cause", sa.Text),
        sa.Column("previous", _whole, comment="position of the entity's event before this one; 0 for its first"),
        sa.Column("hash", sa.Text, nullable=False),
        sa.UniqueConstraint("id", name="uq_events_id"),
    )
    op.create_index("ix_events_segment_channel", "events", ["segment", "channel"])


def _states() -> None:
    op.create_table(
        "states",
        sa.Column("entity", _name, primary_key=True),
        sa.Column("key", _name, primary_key=True),
        sa.Column("fields", sa.Text, comment="JSON; null: the entity is not there (deleted, or never made)"),
        sa.Column("position", _whole, nullable=False, comment="of the entity's last event"),
        sqlite_with_rowid=False,
    )


def _intents() -> None:
    table = op.create_table(
        "intents",
        sa.Column("id", _whole, primary_key=True, autoincrement=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("call_index", _whole, nullable=False, comment="of the call in its batch"),
        sa.Column("procedure", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, comment="null: the contract has no rule for this mutation"),
        sa.Column("stage_epoch", _whole, nullable=False),
        sa.Column("entity", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("input", sa.Text, nullable=False, comment="JSON, sealed by the caller"),
        sa.Column("actor", sa.Text),
        sa.Column("received", _whole, nullable=False),
        sa.Column("deadline", _whole, nullable=False, comment="after this the call can no longer apply"),
        sa.Column("idempotency", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("settled_at", _whole),
        sa.Column("position", _whole, comment="of the first event that it led to"),
        sa.Column("events", _whole, nullable=False, comment="how many events it led to"),
    )
    unsettled = table.c.outcome.in_(["open", "in_doubt"])
    op.create_index("ix_intents_unsettled", "intents", ["id"], sqlite_where=unsettled, postgresql_where=unsettled)


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("idempotency", _name, primary_key=True),
        sa.Column("call_index", _whole, primary_key=True, autoincrement=False),
        sa.Column("fingerprint", sa.Text, comment="of the request, to tell a retry from a key used twice"),
        sa.Column("intent", _whole, nullable=False),
        sa.Column("answer", sa.Text, comment="base64; null while the first request is running or in doubt"),
        sa.Column("expires", _whole, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_answers_expires", "answers", ["expires"])
