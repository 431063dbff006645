"""Every test of this folder runs on each database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shadow.log import Log
from tests.support.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"], name="url")
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/log.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


@pytest.fixture(name="log")
async def _log(url: str) -> AsyncIterator[Log]:
    """A new log, open for writing."""
    log = Log.open(url)
    yield log
    await log.close()
