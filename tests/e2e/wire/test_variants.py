"""Servers that are set up otherwise: the proxy carries their ways too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shadow.log import Log
from tests.e2e.wire.contract import wire_contract
from tests.e2e.wire.test_bytes import JSON
from tests.support.node import stop
from tests.support.node_client import Client, NodeClient, mutation, query
from tests.support.proxy import start_proxy
from tests.support.raw_http import RawRequest
from tests.support.ways import Ways, same_bytes, same_for_a_client
from tests.support.wire_servers import Wire, running_wire_server

TOGETHER = (
    mutation("echoMut", {"a": 1}),
    mutation("failMut", together=True),
    mutation("voidMut", together=True),
    query("hello"),
    query("echo", {"b": 2}, together=True),
)


@contextmanager
def both_ways(directory: Path, *flags: str, base: str = "/trpc", contract: str = "") -> Iterator[Ways]:
    """A server with these flags, and a proxy in front of it whose contract says this of the legacy, too."""
    file = directory / "contract.toml"
    file.write_text(wire_contract("none").replace('"/trpc"', f'"{base}"\n{contract}', 1))
    with running_wire_server(Wire(), directory, *flags) as server:
        proxy = start_proxy(f"http://127.0.0.1:{server.port}", directory, contract=file)
        try:
            yield Ways(server.url, f"{proxy.url}{base}")
        finally:
            stop(proxy.process)


async def test_queries_may_come_as_post(tmp_path: Path, node_client: NodeClient) -> None:
    """A query that comes like a mutation is answered like a query."""
    with both_ways(tmp_path, "--method-override") as ways:
        client = Client(ways.direct, method_override=True)
        run = await same_for_a_client(node_client, ways, client, *TOGETHER)
        assert {one.method for one in run.http} == {"POST"}
        assert [result.error is None for result in run.results] == [True, False, True, True, True]
        await same_for_a_client(node_client, ways, replace(client, link="httpLink"), *TOGETHER)


async def test_a_batch_may_be_answered_by_one_error_for_all(tmp_path: Path, node_client: NodeClient) -> None:
    with both_ways(tmp_path, "--no-batching") as ways:
        run = await same_for_a_client(node_client, ways, Client(ways.direct), *TOGETHER)
        assert all(result.error and result.error.code == "BAD_REQUEST" for result in run.results)
        await same_for_a_client(node_client, ways, Client(ways.direct, "httpBatchStreamLink"), *TOGETHER)


async def test_errors_may_carry_a_stack(tmp_path: Path) -> None:
    """What the server tells its users of itself is the server's business: it passes as it is."""
    with both_ways(tmp_path, "--stack") as ways:
        answer = await same_bytes(ways, RawRequest("POST", b"/trpc/throwMut", JSON, b"1"))
        assert b'"stack":"Error: kaboom' in answer.body


async def test_the_api_may_be_mounted_deeper(tmp_path: Path, node_client: NodeClient) -> None:
    with both_ways(tmp_path, "--base-path", "/api/v1/rpc", base="/api/v1/rpc") as ways:
        run = await same_for_a_client(node_client, ways, Client(ways.direct), *TOGETHER)
        assert [result.error is None for result in run.results] == [True, False, True, True, True]


async def test_paths_may_be_written_with_another_separator(tmp_path: Path, node_client: NodeClient) -> None:
    with both_ways(tmp_path, "--separator", "~", contract='separator = "~"') as ways:
        client = Client(ways.direct, separator="~")
        run = await same_for_a_client(node_client, ways, client, mutation("post.comment.add", {"text": "t"}))
        assert [one.url.rpartition("/")[2] for one in run.http] == ["post~comment~add?batch=1"]
        log = Log.read_only(f"sqlite:///{tmp_path / 'log.db'}")
        said = [event.draft.data for event in log.read(("wire:all",), 0, 10)]
        log.release()
        assert [data["procedure"] for data in said] == ["post.comment.add"]
