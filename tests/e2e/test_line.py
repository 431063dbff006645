"""A stock client writes through the proxy, the log has it, a second client sees it, and both states agree."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shadow.json import Json
from tests.support.legacy import Legacy
from tests.support.node_client import Client, Link, NodeClient, mutation, query
from tests.support.proxy import ProxyProcess, changeover, running_proxy


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy:
        yield proxy


def events(proxy: ProxyProcess) -> list[Json]:
    done = changeover("events", "tail", "-n", "1000", "--json", "--database", proxy.database)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def create(node: NodeClient, client: Client) -> Json:
    result = await node.call(client, mutation("session.create", {"provider": "openai", "model": "gpt-5"}))
    assert result.error is None
    return result.data


@pytest.mark.parametrize("link", ["httpLink", "httpBatchLink"])
async def test_what_a_stock_client_writes_is_in_the_log_when_it_hears_of_success(
    proxy: ProxyProcess, node_client: NodeClient, link: Link
) -> None:
    client = Client(f"{proxy.url}/trpc", link)
    session = await create(node_client, client)
    key = {"sessionId": session["id"]}
    renamed = await node_client.call(client, mutation("session.updateTitle", {**key, "title": "Plans"}))
    read = await node_client.call(client, query("session.getById", key))

    assert renamed.error is None
    assert read.data["title"] == "Plans"
    assert [(event["type"], event["key"], event["channel"]) for event in events(proxy)][-2:] == [
        ("session-created", session["id"], f"session:{session['id']}"),
        ("session-title-updated", session["id"], f"session:{session['id']}"),
    ]
    shown = changeover("state", "session", session["id"], "--json", "--database", proxy.database)
    assert json.loads(shown.stdout)["fields"]["title"] == "Plans"


async def test_an_event_tells_who_acted(legacy: Legacy, tmp_path: Path, node_client: NodeClient) -> None:
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "p", "--actor-header", "X-User") as proxy:
        await create(node_client, Client(f"{proxy.url}/trpc", headers={"x-user": "ana"}))

        assert [event["actor"] for event in events(proxy)][-1] == "ana"


async def test_what_the_legacy_refuses_is_not_in_the_log(proxy: ProxyProcess, node_client: NodeClient) -> None:
    before = events(proxy)
    result = await node_client.call(
        Client(f"{proxy.url}/trpc"), mutation("session.updateTitle", {"sessionId": 7, "title": []})
    )

    assert result.error is not None
    assert events(proxy) == before


async def test_a_second_client_sees_a_change_as_it_happens_and_replays_what_it_missed(
    proxy: ProxyProcess, node_client: NodeClient
) -> None:
    client = Client(f"{proxy.url}/trpc")
    url = f"{proxy.url}/_changeover/events"
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        async with http.stream("GET", url, params={"channel": "session:*"}) as live:
            lines = live.aiter_lines()
            await anext(lines)
            session = await create(node_client, client)
            cursor, seen = await _next_event(lines)
        await node_client.call(client, mutation("session.updateTitle", {"sessionId": session["id"], "title": "A"}))
        async with http.stream("GET", url, params={"channel": "session:*"}, headers={"last-event-id": cursor}) as again:
            _, missed = await _next_event(again.aiter_lines())

    assert (seen["type"], seen["payload"]["sessionId"]) == ("session-created", session["id"])
    assert (missed["type"], missed["payload"]["title"]) == ("session-title-updated", "A")


async def _next_event(lines: AsyncIterator[str]) -> tuple[str, Json]:
    cursor = ""
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            cursor = value
        if name == "data" and cursor:
            return cursor, json.loads(value)
    raise AssertionError("the stream ended")


async def test_reconcile_finds_both_states_equal_and_names_what_was_changed_behind_the_proxys_back(
    proxy: ProxyProcess, legacy: Legacy, node_client: NodeClient
) -> None:
    client = Client(f"{proxy.url}/trpc")
    session = await create(node_client, client)
    await node_client.call(client, mutation("session.updateTitle", {"sessionId": session["id"], "title": "Plans"}))
    arguments: tuple[str, ...] = (
        "reconcile",
        "--legacy",
        f"http://127.0.0.1:{legacy.port}",
        "--contract",
        "examples/contract.toml",
    )
    arguments += ("--database", proxy.database, "--entity", "session", "--format", "json")

    clean = await asyncio.to_thread(changeover, *arguments)
    assert clean.returncode == 0, clean.stdout + clean.stderr

    await node_client.call(
        Client(legacy.url), mutation("session.updateTitle", {"sessionId": session["id"], "title": "Other"})
    )
    drift = await asyncio.to_thread(changeover, *arguments)
    assert drift.returncode == 1, drift.stdout + drift.stderr
    (finding,) = json.loads(drift.stdout)["findings"]
    assert (finding["entity"], finding["key"]) == ("session", session["id"])
    assert "title" in json.dumps(finding)


async def test_a_stage_change_is_an_event_and_what_follows_obeys_it(
    proxy: ProxyProcess, node_client: NodeClient
) -> None:
    done = changeover("stage", "set", "sessions", "off", "--reason", "a look round", "--admin", proxy.admin)
    assert done.returncode == 0, done.stderr
    before = events(proxy)
    assert (before[-1]["channel"], before[-1]["data"]["reason"]) == ("app:cutover", "a look round")

    await create(node_client, Client(f"{proxy.url}/trpc"))

    assert events(proxy) == before


async def test_the_chain_is_verified_and_a_tampered_event_is_found(
    proxy: ProxyProcess, node_client: NodeClient
) -> None:
    await create(node_client, Client(f"{proxy.url}/trpc"))
    assert await proxy.terminated() == 0
    intact = changeover("events", "verify", "--database", proxy.database)
    with sqlite3.connect(proxy.database.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE events SET data = '{}' WHERE position = 1")
    broken = changeover("events", "verify", "--database", proxy.database)

    assert (intact.returncode, broken.returncode) == (0, 1)
    assert "position 1" in broken.stdout
