"""The schema of a database, on each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from shadow import migrations
from shadow.dialect import dialect_of
from shadow.errors import DatabaseMissing, DatabaseTooNew, DatabaseTooOld
from shadow.log import Log
from shadow.schema import metadata


@pytest.fixture(name="connection")
def _connection(url: str) -> Iterator[sa.Connection]:
    dialect = dialect_of(url)
    with dialect.own(create=True) as connection:
        yield connection
    dialect.disown()


def scripts(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    return config


def tables(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names()) - {"alembic_version"}


def test_the_migrations_lead_to_the_tables_that_the_code_uses(connection: sa.Connection) -> None:
    migrations.migrate(connection)
    assert tables(connection) == set(metadata.tables)
    assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_up_down_and_up_again(connection: sa.Connection) -> None:
    migrations.migrate(connection)
    command.downgrade(scripts(connection), "base")
    assert tables(connection) == set()
    migrations.migrate(connection)
    assert tables(connection) == set(metadata.tables)


def test_migrating_twice_changes_nothing(connection: sa.Connection) -> None:
    migrations.migrate(connection)
    migrations.migrate(connection)
    migrations.check(connection)


def test_every_revision_is_known_and_says_whether_it_expands_or_contracts() -> None:
    found = list(ScriptDirectory.from_config(scripts()).walk_revisions())
    assert tuple(script.revision for script in reversed(found)) == migrations.REVISIONS
    assert all(script.doc.endswith(("(expand)", "(expand).", "(contract)", "(contract).")) for script in found)


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(log: Log, url: str) -> None:
    await log.close()
    dialect = dialect_of(url)
    with dialect.own(create=False) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    dialect.disown()
    for opening in (Log.open, Log.read_only):
        with pytest.raises(DatabaseTooNew, match="revision 9999, which a newer version of changeover made"):
            opening(url)
    with dialect.own(create=False) as connection:
        assert migrations.revision(connection) == "9999"
    dialect.disown()


def test_a_database_that_is_not_migrated_is_not_read(
    connection: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatabaseMissing):
        migrations.check(connection)
    migrations.migrate(connection)
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9999"))
    with pytest.raises(DatabaseTooOld, match="migrates it"):
        migrations.check(connection)
