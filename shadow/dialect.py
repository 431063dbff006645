"""Everything in which SQLite and PostgreSQL differ for the log; the rest of the code is the same for both."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import time
from collections.abc import Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import event, pool

from shadow import json
from shadow.errors import DatabaseBusy, DatabaseMissing, DatabaseRefused, Trouble

Row = tuple[object, ...]


class Dialect(Protocol):
    """One kind of database."""

    begin: str
    """Starts a transaction that will write."""
    mark: str
    """Stands for a parameter."""

    most_rows: int
    """How many rows a statement can take."""

    def with_rows(self, columns: tuple[str, ...], count: int) -> str:
        """Return the beginning of a statement: a table `new` of so many rows; `name:int` marks an integer column."""

    def parameters(self, rows: Sequence[Row]) -> tuple[object, ...]:
        """Return what goes with it."""

    def own(self, *, create: bool) -> sa.Connection:
        """Open the one writing connection, in autocommit; raises DatabaseBusy if another process owns the log.

        Without `create` a database that is not there raises DatabaseMissing instead of being made.
        """

    def commit(self, connection: sa.Connection) -> None:
        """Make the open transaction durable; raises DBAPIError, and then nobody knows whether it is."""

    def disown(self) -> None:
        """Let others own the log; the writing connection is closed already."""

    def readers(self) -> sa.Engine:
        """Return an engine whose connections cannot write."""

    def vanished(self) -> str | None:
        """Say how the database was taken away under an open connection that did not notice, or None."""

    def trouble(self, error: BaseException | None) -> Trouble | None:
        """Tell why the database cannot be used, or None if this one command is at fault."""


def dialect_of(url: str) -> Dialect:
    """Return the dialect for a database URL; raises DatabaseRefused for one that cannot hold a log."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise DatabaseRefused(
            f"not a database URL: {url!r}; write sqlite:///changeover.db or postgresql://user@host/name"
        ) from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return SQLite(Path(parsed.database))
        case "sqlite":
            raise DatabaseRefused("a log must survive a restart; give SQLite a file, as in sqlite:///changeover.db")
        case "postgresql" | "postgres":
            return PostgreSQL(parsed)
        case other:
            raise DatabaseRefused(f"a log cannot be kept in {other}; use sqlite:///FILE or postgresql://…")


class SQLite:
    """A database file beside the proxy, owned by one process through a lock on a file next to it."""

    begin = "BEGIN IMMEDIATE"
    mark = "?"
    most_rows = 128
    patience = 5.0
    """Seconds to wait for whoever else has the file locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._identity: tuple[int, int] | None = None

    @staticmethod
    @cache
    def with_rows(columns: tuple[str, ...], count: int) -> str:
        """See Dialect. Values are bound one by one, which is half the work of taking JSON apart."""
        row = f"({', '.join('?' * len(columns))})"
        names = ", ".join(column.removesuffix(":int") for column in columns)
        return f"WITH new ({names}) AS (VALUES {', '.join([row] * count)}) "

    def parameters(self, rows: Sequence[Row]) -> tuple[object, ...]:
        """See Dialect."""
        return tuple(chain.from_iterable(rows))

    def own(self, *, create: bool) -> sa.Connection:
        """See Dialect."""
        if not create and not self.path.exists():
            raise DatabaseMissing(f"the database {self.path} is gone; put it back, or restart to begin a new log")
        if self._lock is None:
            self._lock = self._take_lock()
        connection = self._engine(mode="rwc" if create else "rw").connect()
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        self._identity = _identity(self.path)
        return connection

    def commit(self, connection: sa.Connection) -> None:
        """See Dialect."""
        execute(connection, "COMMIT")

    def disown(self) -> None:
        """See Dialect."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def readers(self) -> sa.Engine:
        """See Dialect."""
        if not self.path.exists():
            raise DatabaseMissing(f"there is no database {self.path}; start `changeover serve` with it first")
        return self._engine(mode="ro")

    def vanished(self) -> str | None:
        """See Dialect."""
        if _identity(self.path) != self._identity:
            return f"the database file {self.path} was removed or replaced while it was open"
        return None

    def trouble(self, error: BaseException | None) -> Trouble | None:
        """See Dialect."""
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return Trouble.DISK_FULL
        if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return Trouble.LOCKED
        if primary in {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}:
            return None
        return Trouble.GONE if isinstance(error, sqlite3.Error) and code is not None else None

    def _engine(self, mode: str) -> sa.Engine:
        url = sa.URL.create("sqlite", database=self.path.absolute().as_uri(), query={"mode": mode, "uri": "true"})
        writes = mode != "ro"
        engine = sa.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            poolclass=pool.NullPool if writes else pool.QueuePool,
            connect_args={"timeout": self.patience, "check_same_thread": False, "cached_statements": 1024},
        )

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA cache_size = {-65536 if writes else -8192}")
            connection.execute("PRAGMA wal_autocheckpoint = 4000")
            if not writes:
                connection.execute("PRAGMA query_only = ON")

        return engine

    def _take_lock(self) -> int:
        beside = self.path.with_name(self.path.name + ".lock")
        try:
            file = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DatabaseRefused(
                f"cannot open {beside}: {error.strerror}; the log needs a folder that it may write to"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(file, 20).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise DatabaseBusy(
                f"process {owner} is writing the log {self.path}; stop it, or let it do this through its admin port"
            ) from error
        os.ftruncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        return file


class PostgreSQL:
    """A PostgreSQL database; owned through an advisory lock that lives as long as the writer's session."""

    begin = "BEGIN"
    mark = "%s"
    most_rows = 10_000

    def __init__(self, url: sa.URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")

    @staticmethod
    @cache
    def with_rows(columns: tuple[str, ...], count: int) -> str:
        """See Dialect. The rows are ONE parameter, a JSON array of arrays, so the server prepares one statement."""
        fields = []
        for place, column in enumerate(columns):
            name, _, kind = column.partition(":")
            fields.append(f"(value->>{place})::{'bigint' if kind == 'int' else 'text'} AS {name}")
        return f"WITH new AS (SELECT {', '.join(fields)} FROM json_array_elements(%s::json) AS one(value)) "

    def parameters(self, rows: Sequence[Row]) -> tuple[object, ...]:
        """See Dialect."""
        return (json.encode(rows).decode(),)

    def own(self, *, create: bool) -> sa.Connection:
        """See Dialect."""
        connection = self._engine(pool.NullPool).connect()
        try:
            self._take_lock(connection)
            connection.exec_driver_sql("SET synchronous_commit = on")
            connection.exec_driver_sql("SET lock_timeout = '5s'")
            # All that the writer does is look up or change a few rows by their keys. The planner cannot know how few
            # a JSON parameter holds, and would read whole tables for them once these have grown.
            for way in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"):
                connection.exec_driver_sql(f"SET {way} = off")
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        return connection

    def commit(self, connection: sa.Connection) -> None:
        """See Dialect."""
        execute(connection, "COMMIT")

    def disown(self) -> None:
        """See Dialect; the lock went with the session."""

    def readers(self) -> sa.Engine:
        """See Dialect."""
        engine = self._engine(pool.QueuePool)

        @event.listens_for(engine, "connect")
        def configure(connection: Any, _record: object) -> None:
            connection.execute("SET default_transaction_read_only = on")

        return engine

    def vanished(self) -> str | None:
        """See Dialect."""
        return None

    def trouble(self, error: BaseException | None) -> Trouble | None:
        """See Dialect."""
        import psycopg

        state = getattr(error, "sqlstate", None)
        if state == "53100":
            return Trouble.DISK_FULL
        if state in {"55P03", "57014", "40P01"}:
            return Trouble.LOCKED
        if isinstance(error, psycopg.IntegrityError | psycopg.DataError | psycopg.ProgrammingError):
            return None
        return Trouble.GONE if isinstance(error, psycopg.Error) else None

    def _engine(self, poolclass: type[pool.Pool]) -> sa.Engine:
        try:
            return sa.create_engine(
                self._url,
                isolation_level="AUTOCOMMIT",
                poolclass=poolclass,
                pool_pre_ping=poolclass is not pool.NullPool,
                connect_args={
                    "connect_timeout": 5,
                    "application_name": f"changeover, process {os.getpid()} on {socket.gethostname()}"[:63],
                },
            )
        except ModuleNotFoundError as error:
            raise DatabaseRefused("PostgreSQL needs its driver; install changeover[postgres]") from error

    def _take_lock(self, connection: sa.Connection) -> None:
        """Wait a little for it: the server may not have noticed yet that an owner was killed."""
        for _ in range(20):
            if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_PG_LOCK})").scalar():
                return
            time.sleep(0.1)
        owner = connection.exec_driver_sql(
            "SELECT activity.application_name FROM pg_locks JOIN pg_stat_activity AS activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted "
            f"AND ((classid::bigint << 32) | objid::bigint) = {_PG_LOCK}"
        ).scalar()
        raise DatabaseBusy(
            f"{owner or 'another process'} is writing the log {self._url.render_as_string()}; "
            "stop it, or let it do this through its admin port"
        )


def execute(connection: sa.Connection, sql: str, parameters: Sequence[object] = ()) -> Any:
    """Carry out SQL on the driver's own cursor and return that; raises DBAPIError.

    SQLAlchemy's way through a statement costs more than the statement itself does in SQLite.
    """
    driver = connection.dialect.loaded_dbapi
    cursor = connection.connection.cursor()
    try:
        cursor.execute(sql, parameters)
    except BaseException as error:
        cursor.close()  # or else the connection would outlive its own end, and hold its locks
        if isinstance(error, driver.Error):
            raise sa.exc.DBAPIError.instance(None, None, error, driver.Error) from error
        raise
    return cursor


_PG_LOCK = "hashtextextended('changeover:' || current_schema(), 0)"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
