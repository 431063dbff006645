"""The comparison itself finds what differs: two servers that are not the same are told apart."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.node_client import Client, NodeClient, query
from tests.support.raw_http import RawRequest
from tests.support.ways import Ways, same_bytes, same_for_a_client
from tests.support.wire_servers import Wire, WireServer


def between(servers: Mapping[Wire, WireServer], one: Wire, other: Wire) -> Ways:
    return Ways(servers[one].url, servers[other].url)


async def test_another_header_is_a_difference(wire_servers: Mapping[Wire, WireServer], node_client: NodeClient) -> None:
    """Express says that it is Express; the body is the same."""
    ways = between(wire_servers, Wire(11, "standalone"), Wire(11, "express"))
    with pytest.raises(AssertionError, match="x-powered-by"):
        await same_bytes(ways, RawRequest("GET", b"/trpc/hello"))
    with pytest.raises(AssertionError, match="x-powered-by"):
        await same_for_a_client(node_client, ways, Client(ways.direct), query("hello"))


async def test_another_value_is_a_difference(wire_servers: Mapping[Wire, WireServer], node_client: NodeClient) -> None:
    """A date that came as text is not a date."""
    ways = between(wire_servers, Wire(11, "standalone", "superjson"), Wire(11, "standalone", "none"))
    with pytest.raises(AssertionError):
        await same_for_a_client(node_client, ways, Client(ways.direct, transformer="superjson"), query("rich"))
