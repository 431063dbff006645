"""States are written behind the events; segments are shorter (expand)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Say how far the states go, which is all the way so far, and cut the channel index into shorter segments."""
    op.add_column(
        "log",
        sa.Column(
            "folded", _whole, nullable=False, server_default="0", comment="position up to which `states` is complete"
        ),
    )
    op.execute("UPDATE log SET folded = position")
    op.execute("UPDATE events SET segment = position / 128")


def downgrade() -> None:
    """Cut the segments as long as they were; the version before has to find all states in their table."""
    behind = op.get_bind().execute(sa.text("SELECT position - folded FROM log")).scalar()
    if behind:
        raise RuntimeError("the states lag behind; stop the proxy in order first, which brings them up to date")
    op.execute("UPDATE events SET segment = position / 1024")
    op.drop_column("log", "folded")
