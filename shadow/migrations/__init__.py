"""Bring a database to the schema of this version, and refuse one of a newer version.

Revisions are labelled in their docstring: an *expand* revision only adds, so the version before it goes on
working on the new schema; a *contract* revision removes what no running version uses any more.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from shadow.errors import DatabaseMissing, DatabaseTooNew, DatabaseTooOld

REVISIONS = ("0001", "0002")
"""All revisions, oldest first. Kept here so that an up-to-date database is recognised without loading Alembic."""


def migrate(connection: sa.Connection) -> None:
    """Bring the database to the newest revision; raises DatabaseTooNew and then changes nothing."""
    if _known(revision(connection)) != REVISIONS[-1]:
        _upgrade(connection, "head")


def check(connection: sa.Connection) -> None:
    """Raise DatabaseMissing, DatabaseTooOld or DatabaseTooNew unless the schema is the one of this version."""
    found = _known(revision(connection))
    if found is None:
        raise DatabaseMissing("this database holds no log yet; start `changeover serve` on it first")
    if found != REVISIONS[-1]:
        raise DatabaseTooOld(
            f"the log is at schema revision {found} and this version reads {REVISIONS[-1]}; "
            "start `changeover serve` of this version on it once, which migrates it"
        )


def revision(connection: sa.Connection) -> str | None:
    """Return the revision that the database is at, or None for a database without a log."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if found is None else str(found)


def _known(found: str | None) -> str | None:
    if found is not None and found not in REVISIONS:
        raise DatabaseTooNew(
            f"the log is at schema revision {found}, which a newer version of changeover made "
            f"(this version knows up to {REVISIONS[-1]}); install that version, or give another --database"
        )
    return found


def _upgrade(connection: sa.Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)
