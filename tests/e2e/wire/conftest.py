"""Each server of the wire matrix, and the two ways to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

import pytest

from tests.support.ways import Ways
from tests.support.wire_servers import MATRIX, Wire, WireServer, running_wire_matrix


@pytest.fixture(scope="session", name="wire_servers")
def _wire_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Wire, WireServer]]:
    with running_wire_matrix(tmp_path_factory.mktemp("wire")) as servers:
        yield servers


@pytest.fixture(params=MATRIX, ids=str, name="server")
def _server(request: pytest.FixtureRequest, wire_servers: Mapping[Wire, WireServer]) -> WireServer:
    """Every server in turn."""
    wire: Wire = request.param
    return wire_servers[wire]


@pytest.fixture(name="ways")
def _ways(server: WireServer) -> Ways:
    """The server itself, and the server behind a proxy."""
    return Ways(direct=server.url, proxied=server.url)


@pytest.fixture(name="unique")
def _unique() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex
