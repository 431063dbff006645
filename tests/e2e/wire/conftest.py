"""Each server of the wire matrix, and the two ways to it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.e2e.wire.contract import wire_contract
from tests.support.node import stop
from tests.support.proxy import ProxyProcess, start_proxy
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


@pytest.fixture(scope="session", name="proxies")
def _proxies(
    wire_servers: Mapping[Wire, WireServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Wire], ProxyProcess]]:
    """Starts the proxy in front of a server when it is first asked for; it stays until the end of the run."""
    running: dict[Wire, ProxyProcess] = {}

    def in_front_of(wire: Wire) -> ProxyProcess:
        if wire not in running:
            data = tmp_path_factory.mktemp(f"proxy-{wire}")
            contract = data / "contract.toml"
            contract.write_text(wire_contract(wire.transformer))
            running[wire] = start_proxy(f"http://127.0.0.1:{wire_servers[wire].port}", data, contract=contract)
        return running[wire]

    yield in_front_of
    for proxy in running.values():
        proxy.process.terminate()
    for proxy in running.values():
        stop(proxy.process)


@pytest.fixture(name="ways")
def _ways(server: WireServer, proxies: Callable[[Wire], ProxyProcess]) -> Ways:
    """The server itself, and the server behind a proxy that mirrors what its mutations do."""
    return Ways(direct=server.url, proxied=f"{proxies(server.wire).url}/trpc")


@pytest.fixture(name="unique")
def _unique() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one server together, so that only one worker starts the proxy before it."""
    for item in items:
        wire = getattr(item, "callspec", None) and item.callspec.params.get("server")  # type: ignore[attr-defined]
        if isinstance(wire, Wire):
            item.add_marker(pytest.mark.xdist_group(str(wire)))
