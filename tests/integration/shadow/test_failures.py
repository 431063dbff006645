"""When the database fails, callers are told, nothing is lost or doubled, and the log goes on by itself."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from shadow.dialect import SQLite
from shadow.errors import DatabaseBusy, DatabaseMissing, DatabaseRefused, LogUnavailable, Trouble
from shadow.events import Event
from shadow.journal import Outcome, Settlement
from shadow.log import Log
from tests.support.facts import draft, intent
from tests.support.postgres import Postgres


class Failing(SQLite):
    """A SQLite file that fails on request."""

    patience = 0.02
    pages: int | None = None
    away = False
    fail_before_commit = False
    fail_after_commit = False

    def own(self, *, create: bool) -> sa.Connection:
        if self.away:
            raise DatabaseMissing("it is away")
        connection = super().own(create=create)
        if self.pages is not None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {self.pages}")
        return connection

    def commit(self, connection: sa.Connection) -> None:
        if self.fail_before_commit:
            self.fail_before_commit = False
            raise _io_error()
        super().commit(connection)
        if self.fail_after_commit:
            self.fail_after_commit = False
            raise _io_error()


def _io_error() -> sa.exc.DBAPIError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return sa.exc.DBAPIError.instance(None, None, error, sqlite3.Error)  # type: ignore[return-value] # it is one


class World:
    """A log on a file that can fail, and what its listeners were told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.file = Failing(self.path)
        self.log = Log(self.file, cached_states=100)
        self.told: list[Event] = []
        self.log.on_commit(self.told.extend)

    async def ends_whole(self, *ids: str) -> None:
        """Check that exactly these events are in the log, each told once, in order, and that it goes on."""
        await self.log.append([draft("last")])
        events = self.log.read(["*"], 0, 100)
        assert [one.draft.id for one in events] == [*ids, "last"]
        assert self.told == events
        assert self.log.verify() is None
        assert self.log.trouble is None
        await self.log.close()


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_full_disk_is_told_and_passes(world: World) -> None:
    await world.log.append([draft("e1")])
    world.file.pages = 30
    world.log._writer._drop()
    large = [draft(f"large{number}", note="x" * 3000) for number in range(50)]
    with pytest.raises(LogUnavailable) as refusal:
        await world.log.append(large)
    assert (refusal.value.trouble, refusal.value.unknown) == (Trouble.DISK_FULL, False)
    assert world.log.trouble is Trouble.DISK_FULL
    world.file.pages = 1_000_000
    world.log._writer._drop()
    await world.ends_whole("e1")


async def test_a_locked_file_is_told_and_passes(world: World) -> None:
    await world.log.append([draft("e1")])
    other = sqlite3.connect(world.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable) as refusal:
        await world.log.begin([intent()])
    assert (refusal.value.trouble, refusal.value.unknown) == (Trouble.LOCKED, False)
    other.execute("ROLLBACK")
    other.close()
    await world.ends_whole("e1")


async def test_a_file_that_was_taken_away_is_noticed_and_found_again(world: World, tmp_path: Path) -> None:
    await world.log.append([draft("e1")])
    world.path.rename(tmp_path / "elsewhere.db")
    for _ in range(2):
        with pytest.raises(LogUnavailable, match=r"gone|removed") as refusal:
            await world.log.append([draft("e2")])
        assert refusal.value.trouble is Trouble.GONE
    (tmp_path / "elsewhere.db").rename(world.path)
    await world.log.append([draft("e2")])
    await world.ends_whole("e1", "e2")


async def test_another_log_in_place_of_this_one_is_not_written(world: World, tmp_path: Path) -> None:
    await world.log.append([draft("e1")])
    world.path.rename(tmp_path / "elsewhere.db")
    world.path.with_name("log.db-wal").unlink()
    world.path.with_name("log.db-shm").unlink()
    other = Log.open(f"sqlite:///{tmp_path}/other.db")
    await other.close()
    (tmp_path / "other.db").rename(world.path)
    with pytest.raises(LogUnavailable):
        await world.log.append([draft("e2")])
    with pytest.raises(LogUnavailable, match="another log"):
        await world.log.append([draft("e2")])
    await world.log.close()
    with Log.read_only(f"sqlite:///{world.path}") as reader:
        assert reader.head.position == 0


async def test_a_commit_that_failed_and_did_not_happen_is_done_again(world: World) -> None:
    world.file.fail_before_commit = True
    (event_,) = await world.log.append([draft("e1")])
    assert event_.position == 1
    await world.ends_whole("e1")


async def test_a_commit_that_failed_and_happened_all_the_same_is_not_done_again(world: World) -> None:
    (id,) = await world.log.begin([intent()])
    world.file.fail_after_commit = True
    (event_,) = await world.log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1"),))])
    assert event_ == world.log.event(1)
    assert world.log.open_intents() == []
    await world.ends_whole("e1")


async def test_a_commit_of_which_nobody_knows_is_told_as_that_and_may_be_repeated(world: World) -> None:
    await world.log.append([draft("e1")])
    world.file.fail_after_commit = world.file.away = True
    with pytest.raises(LogUnavailable, match="not known") as refusal:
        await world.log.append([draft("e2"), draft("e3")])
    assert refusal.value.unknown
    with pytest.raises(LogUnavailable) as refusal:
        await world.log.append([draft("e4")])
    assert not refusal.value.unknown
    world.file.away = False
    again = await world.log.append([draft("e2"), draft("e3")])
    assert [one.position for one in again] == [2, 3]
    await world.ends_whole("e1", "e2", "e3")


async def test_many_callers_each_get_an_error_of_their_own(world: World) -> None:
    world.file.away = True
    world.log._writer._drop()
    results = await asyncio.gather(*(world.log.append([draft(f"e{n}")]) for n in range(9)), return_exceptions=True)
    assert len({id(result) for result in results}) == 9
    assert all(isinstance(result, LogUnavailable) for result in results)
    world.file.away = False
    await world.ends_whole()


async def test_a_second_writer_of_a_file_is_refused_and_told_who_has_it(world: World) -> None:
    with pytest.raises(DatabaseBusy, match=r"process \d+ is writing the log"):
        Log.open(f"sqlite:///{world.path}")
    await world.log.close()
    await Log.open(f"sqlite:///{world.path}").close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "must survive a restart"),
        ("sqlite:///:memory:", "must survive a restart"),
        ("mysql://localhost/x", "cannot be kept in mysql"),
        ("what is this", "not a database URL"),
        ("sqlite:////nowhere/at/all/log.db", "folder"),
        ("postgresql://nobody@127.0.0.1:1/none", "cannot open the log"),
    ],
)
def test_a_database_that_cannot_hold_a_log_is_refused_in_words(url: str, told: str) -> None:
    with pytest.raises(DatabaseRefused, match=told):
        Log.open(url)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear reader, " * 1000)
    with pytest.raises(DatabaseRefused, match="not a database"):
        Log.open(f"sqlite:///{path}")
    assert path.read_text().startswith("Dear reader")


async def test_a_server_that_ended_our_session_is_found_again_by_the_next_command(postgres: Postgres) -> None:
    url = postgres.database()
    log = Log.open(url)
    told: list[Event] = []
    log.on_commit(told.extend)
    await log.append([draft("e1")])
    assert log.event(1) is not None
    postgres.disconnect(url)
    await log.append([draft("e2")])
    assert [one.draft.id for one in log.read(["*"], 0, 10)] == ["e1", "e2"]
    assert log.verify() is None
    assert [one.draft.id for one in told] == ["e1", "e2"]
    await log.close()


async def test_a_log_that_another_process_took_over_is_told_as_that(postgres: Postgres) -> None:
    url = postgres.database()
    log = Log.open(url)
    await log.append([draft("e1")])
    with pytest.raises(DatabaseBusy, match="changeover, process"):
        Log.open(url)
    postgres.disconnect(url)
    successor = Log.open(url)
    await successor.append([draft("theirs")])
    with pytest.raises(LogUnavailable) as refusal:
        await log.append([draft("e2")])
    assert refusal.value.trouble is Trouble.TAKEN
    await successor.close()
    told: list[Event] = []
    log.on_commit(told.extend)
    await log.append([draft("e2")])
    assert [one.draft.id for one in told] == ["theirs", "e2"]
    assert log.verify() is None
    await log.close()


async def test_two_writers_that_both_believe_they_own_it_cannot_both_commit(postgres: Postgres) -> None:
    url = postgres.database()
    log = Log.open(url)
    await log.append([draft("e1")])
    postgres.execute("UPDATE log SET batch = batch + 1, writer = 'somebody'", url)
    with pytest.raises(LogUnavailable) as refusal:
        await log.append([draft("e2")])
    assert refusal.value.trouble is Trouble.TAKEN
    await log.append([draft("e3")])
    assert [one.draft.id for one in log.read(["*"], 0, 10)] == ["e1", "e3"]
    await log.close()


async def test_a_locked_table_is_told_and_passes(postgres: Postgres) -> None:
    url = postgres.database()
    log = Log.open(url)
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    assert log._writer._connection is not None
    log._writer._connection.exec_driver_sql("SET lock_timeout = '20ms'")
    with engine.begin() as other:
        other.exec_driver_sql("LOCK TABLE log")
        with pytest.raises(LogUnavailable) as refusal:
            await log.append([draft("e1")])
    assert refusal.value.trouble is Trouble.LOCKED
    await log.append([draft("e1")])
    assert log.head.position == 1
    await log.close()
    engine.dispose()
