"""What all tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.legacy import Legacy, running_legacy
from tests.support.node_client import NodeClient, running_node_client
from tests.support.postgres import Postgres, running_postgres

# A busy machine is slow at times; the tests check promises, never the wall clock.
settings.register_profile("changeover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("changeover")


@pytest.fixture(scope="session", name="node_client")
def _node_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeClient]:
    """The stock tRPC clients, in one Node process for the whole run."""
    with running_node_client(tmp_path_factory.mktemp("node-client")) as client:
        yield client


@pytest.fixture(name="legacy")
async def _legacy(tmp_path: Path) -> AsyncIterator[Legacy]:
    """A fresh example legacy that fails on request."""
    async with running_legacy(tmp_path / "legacy", "--faults", "--ws", "--delta", "0") as legacy:
        yield legacy


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started when the first test asks for it."""
    with running_postgres() as postgres:
        yield postgres
