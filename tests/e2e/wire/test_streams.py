"""Streams pass piece by piece: what the server has said arrives before the server goes on.

The server waits at a gate that is opened only after the first piece was seen; a proxy that holds pieces back would
keep the client waiting for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.support.node_client import Client, NodeClient, mutation
from tests.support.raw_http import RawAnswer, RawRequest, opened
from tests.support.ways import Ways, base_path
from tests.support.wire_servers import Wire, WireServer

JSON = (("content-type", "application/json"),)
PLAIN = [Wire(11, adapter, "none") for adapter in ("standalone", "express", "fetch")]
OLD = [Wire(10, adapter, "none") for adapter in ("standalone", "express")]


async def through_the_gate(
    url: str, request: RawRequest, seen: bytes, node: NodeClient, server: WireServer, gate: str
) -> RawAnswer:
    """Read until `seen` is there, only then let the server go on, and read the rest."""
    async with asyncio.timeout(10), opened(url, replace(request, target=base_path(url) + request.target)) as stream:
        await stream.until(seen)
        await node.call(Client(server.url, version=server.wire.version), mutation("open", {"gate": gate}))
        return await stream.whole()


@pytest.mark.parametrize("server", PLAIN, ids=str, indirect=True)
async def test_a_streamed_batch_comes_line_by_line(
    server: WireServer, ways: Ways, node_client: NodeClient, unique: str
) -> None:
    request = RawRequest(
        "POST",
        b"/gatedMut,echoMut?batch=1",
        (*JSON, ("trpc-accept", "application/jsonl")),
        f'{{"0":{{"gate":"{unique}"}},"1":"quick"}}'.encode(),
    )
    answer = await through_the_gate(ways.proxied, request, b'{"got":"quick"}', node_client, server, unique)
    assert answer.body.index(b'"quick"') < answer.body.index(b'"passed"')


@pytest.mark.parametrize("server", PLAIN, ids=str, indirect=True)
async def test_a_generator_comes_step_by_step(
    server: WireServer, ways: Ways, node_client: NodeClient, unique: str
) -> None:
    request = RawRequest(
        "POST",
        b"/generatorMut?batch=1",
        (*JSON, ("trpc-accept", "application/jsonl")),
        f'{{"0":{{"steps":2,"gate":"{unique}"}}}}'.encode(),
    )
    answer = await through_the_gate(ways.proxied, request, b'{"step":1}', node_client, server, unique)
    assert b'{"step":2}' in answer.body


@pytest.mark.parametrize("server", OLD, ids=str, indirect=True)
async def test_an_old_streamed_batch_comes_member_by_member(
    server: WireServer, ways: Ways, node_client: NodeClient, unique: str
) -> None:
    request = RawRequest(
        "POST",
        b"/gatedMut,echoMut?batch=1",
        (*JSON, ("trpc-batch-mode", "stream")),
        f'{{"0":{{"gate":"{unique}"}},"1":"quick"}}'.encode(),
    )
    answer = await through_the_gate(ways.proxied, request, b'{"got":"quick"}', node_client, server, unique)
    assert answer.body.index(b'"1":') < answer.body.index(b'"0":')


@pytest.mark.parametrize("server", PLAIN, ids=str, indirect=True)
async def test_a_subscription_comes_event_by_event(
    server: WireServer, ways: Ways, node_client: NodeClient, unique: str
) -> None:
    target = b"/gatedTicks?input=" + quote(f'{{"gate":"{unique}"}}').encode()
    request = RawRequest("GET", target, (("accept", "text/event-stream"),))
    answer = await through_the_gate(ways.proxied, request, b'data: "before"', node_client, server, unique)
    assert answer.body.endswith(b"event: return\ndata: \n\n\n")
