"""Every client sees every change, with the client it already has: through restarts, kills, and the legacy's absence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import httpx
import pytest
from websockets.asyncio.client import connect

from shadow.json import Json
from shadow.log import Log
from tests.support.feeds import sse
from tests.support.legacy import Legacy, running_legacy
from tests.support.node import stop
from tests.support.node_client import Call, Client, Link, NodeClient, mutation, query
from tests.support.proxy import ProxyProcess, start_proxy

BOTH = {"channels": ["session:*", "config:*"]}
OPENAI = {"provider": "openai", "model": "gpt-5"}


def start(legacy: Legacy, folder: Path, port: int = 0) -> ProxyProcess:
    return start_proxy(f"http://127.0.0.1:{legacy.port}", folder / "proxy", "--port", str(port))


def logged(proxy: ProxyProcess, *patterns: str) -> list[Json]:
    """What the log has of some channels, as subscribers see it."""
    reader = Log.read_only(proxy.database)
    try:
        epoch = reader.head.epoch
        return [
            (f"{epoch}-{event.position}", event.draft.channel, event.draft.type)
            for event in reader.read(patterns or ["*"], 0, 100_000)
        ]
    finally:
        reader.release()


def seen(items: Sequence[Json]) -> list[Json]:
    return [(item["id"], item["data"]["channel"], item["data"]["type"]) for item in items]


async def made(node: NodeClient, client: Client, call: Call) -> Json:
    result = await node.call(client, call)
    assert result.error is None, result.error
    return result.data


async def until(items: AsyncIterator[Json], kind: str, into: list[Json]) -> Json:
    while True:
        item = await anext(items)
        into.append(item)
        if item["data"]["type"] == kind:
            return item["data"]["payload"]


@pytest.mark.parametrize(
    ("gui_link", "tui_link", "tui_version"),
    [("httpSubscriptionLink", "wsLink", 11), ("wsLink", "wsLink", 10)],
    ids=["server-sent events and websocket", "both websocket, one of them v10"],
)
async def test_two_clients_see_what_the_other_does(
    legacy: Legacy,
    tmp_path: Path,
    node_client: NodeClient,
    gui_link: Link,
    tui_link: Link,
    tui_version: Literal[10, 11],
) -> None:
    """Sessions, models, providers, rules and agents, in both directions, and the proxy is killed in between."""
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    try:
        url = f"{proxy.url}/trpc"
        gui, gui_writes = Client(url, gui_link), Client(url, "httpBatchLink")
        tui = Client(url, tui_link, tui_version)
        gui_saw: list[Json] = []
        tui_saw: list[Json] = []
        async with (
            asyncio.timeout(120),
            node_client.follow(gui, "events.subscribe", BOTH) as gui_items,
            node_client.follow(tui, "events.subscribe", BOTH) as tui_items,
        ):
            session = await made(node_client, gui_writes, mutation("session.create", OPENAI))
            key = {"sessionId": session["id"]}
            assert (await until(tui_items, "session-created", tui_saw))["sessionId"] == session["id"]
            await made(node_client, tui, mutation("session.updateTitle", {**key, "title": "Plans"}))
            assert (await until(gui_items, "session-title-updated", gui_saw))["title"] == "Plans"
            await made(node_client, gui_writes, mutation("session.updateModel", {**key, "model": "gpt-5-mini"}))
            assert (await until(tui_items, "session-model-updated", tui_saw))["model"] == "gpt-5-mini"

            config = {"apiKey": "sk-very-secret-4711"}
            await made(
                node_client, tui, mutation("config.updateProviderConfig", {"providerId": "openai", "config": config})
            )
            provider = await until(gui_items, "provider-added", gui_saw)
            assert "sk-very-secret-4711" not in json.dumps(provider)

            if tui_version == 11:  # v10 has no resumption: its client would miss what happens meanwhile
                await asyncio.to_thread(proxy.kill)
                port = int(proxy.url.rpartition(":")[2])
                proxy = await asyncio.to_thread(start, legacy, tmp_path, port)

            await made(node_client, gui_writes, mutation("rules.toggle", {"ruleId": "concise", "enabled": True}))
            assert (await until(tui_items, "rule-toggled", tui_saw))["ruleId"] == "concise"
            await made(node_client, tui, mutation("agents.select", {"agentId": "planner"}))
            assert (await until(gui_items, "agent-selected", gui_saw))["agentId"] == "planner"
            await made(node_client, gui_writes, mutation("session.delete", key))
            assert await until(tui_items, "session-deleted", tui_saw)
            await until(gui_items, "session-deleted", gui_saw)

        assert seen(gui_saw) == seen(tui_saw) == logged(proxy, "session:*", "config:*")
        assert "sk-very-secret-4711" not in proxy.stderr()
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)


@pytest.mark.parametrize("link", ["httpSubscriptionLink", "wsLink"])
async def test_a_client_follows_through_kills_of_the_proxy_and_has_seen_the_log_in_the_end(
    legacy: Legacy, tmp_path: Path, node_client: NodeClient, link: Link
) -> None:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    items: list[Json] = []
    try:
        client = Client(f"{proxy.url}/trpc", link)
        writer = Client(f"{proxy.url}/trpc", "httpLink")
        async with asyncio.timeout(120), node_client.follow(client, "events.subscribe", {"pattern": "*"}) as following:
            await made(node_client, writer, mutation("session.create", OPENAI))
            items.append(await anext(following))
            for _ in range(3):
                await asyncio.to_thread(proxy.kill)
                proxy = await asyncio.to_thread(start, legacy, tmp_path, int(proxy.url.rpartition(":")[2]))
                for _ in range(3):
                    await made(node_client, writer, mutation("session.create", OPENAI))
            whole = logged(proxy)
            while items[-1]["id"] != whole[-1][0]:
                items.append(await anext(following))
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert seen(items) == whole[whole.index(seen(items)[0]) :]


async def test_the_way_of_the_proxy_and_of_the_legacy_can_be_followed(tmp_path: Path) -> None:
    async with running_legacy(tmp_path / "legacy") as legacy:
        proxy = await asyncio.to_thread(start, legacy, tmp_path)
        try:
            async with (
                asyncio.timeout(60),
                sse(f"{proxy.url}/_changeover/events", channel="app:lifecycle", after="0") as reader,
            ):
                kinds = [(await reader.item())["type"]]
                await asyncio.to_thread(legacy.kill)
                kinds.append((await reader.item())["type"])
                async with running_legacy(legacy.data, port=legacy.port), asyncio.TaskGroup() as group:
                    kinds.append((await reader.item())["type"])
                    stopping = group.create_task(proxy.terminated())
                    kinds.append((await reader.item())["type"])
                    with pytest.raises(StopAsyncIteration):
                        await reader.next()
                assert stopping.result() == 0
        finally:
            await asyncio.to_thread(stop, proxy.process, grace=60)

    assert kinds == ["app-started", "legacy-down", "legacy-up", "app-stopping"]


async def test_calls_of_the_legacy_and_of_the_overlay_share_a_websocket(
    legacy: Legacy, tmp_path: Path, node_client: NodeClient
) -> None:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    try:
        run = await node_client.run(
            Client(f"{proxy.url}/trpc", "wsLink"),
            mutation("session.create", OPENAI),
            query("session.getRecent", {"limit": 5}),
            query("events.getChannelInfo", {"channel": "config:ai"}, together=True),
            query("events.snapshot", {"entity": "session"}),
        )
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    created, recent, info, snapshot = (result.data for result in run.results)
    assert [session["id"] for session in recent["sessions"]] == [created["id"]]
    assert info["events"] == 0
    assert [item["key"] for item in snapshot["items"]] == [created["id"]]


async def test_events_come_over_websocket_where_the_legacy_has_none(tmp_path: Path, node_client: NodeClient) -> None:
    async with running_legacy(tmp_path / "legacy", "--delta", "0") as legacy:
        proxy = await asyncio.to_thread(start, legacy, tmp_path)
        try:
            client = Client(f"{proxy.url}/trpc", "wsLink")
            async with (
                asyncio.timeout(60),
                node_client.follow(client, "events.subscribeToAllSessions", {}) as items,
            ):
                await made(node_client, Client(f"{proxy.url}/trpc"), mutation("session.create", OPENAI))
                item = await anext(items)
            refused = await node_client.call(client, query("session.getRecent", {}))
        finally:
            await asyncio.to_thread(stop, proxy.process, grace=60)

    assert item["data"]["type"] == "session-created"
    assert refused.error is not None
    assert refused.error.code == "NOT_IMPLEMENTED"


async def test_a_client_that_could_not_reach_the_legacy_connects_again_when_it_is_back(
    tmp_path: Path, node_client: NodeClient
) -> None:
    """Meanwhile it has the events that there are, and clear errors for everything else."""
    async with running_legacy(tmp_path / "legacy", "--ws") as legacy:
        proxy = await asyncio.to_thread(start, legacy, tmp_path)
        try:
            await asyncio.to_thread(legacy.kill)
            url = proxy.url.replace("http", "ws") + "/trpc"
            follow = {"path": "events.subscribe", "input": {"pattern": "app:lifecycle", "replayLast": 9}}
            ask = {"id": 2, "method": "query", "params": {"path": "session.getRecent", "input": {}}}
            async with asyncio.timeout(60), connect(url) as socket:
                await socket.send(json.dumps({"id": 1, "method": "subscription", "params": follow}))
                while "legacy-down" not in (frame := await socket.recv()):
                    assert "error" not in frame
                await socket.send(json.dumps(ask))
                error = json.loads(await socket.recv())["error"]
                async with running_legacy(legacy.data, "--ws", port=legacy.port):
                    said = [await socket.recv(), await socket.recv()]
                    async with connect(url) as again:
                        await again.send(json.dumps(ask))
                        answer = json.loads(await again.recv())
        finally:
            await asyncio.to_thread(stop, proxy.process, grace=60)

    assert error["data"]["code"] == "SERVICE_UNAVAILABLE"
    assert any("legacy-up" in str(frame) for frame in said)
    assert '{"id":null,"method":"reconnect"}' in said
    assert answer["result"]["data"]["sessions"] == []


async def test_an_operator_publishes_through_the_admin_port(legacy: Legacy, tmp_path: Path) -> None:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    event = {"channel": "app:notices", "type": "app-notice", "payload": {"text": "back at six"}, "id": "notice"}
    try:
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            sse(f"{proxy.url}/_changeover/events", channel="app:notices") as reader,
        ):
            await reader.next()
            published = await http.post(f"{proxy.admin}/publish", json=event)
            seen = await reader.item()
            refused = await http.post(f"{proxy.admin}/publish", json=event | {"type": "other"})
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert published.status_code == 201
    assert seen == published.json()["event"]
    assert refused.status_code == 409
