"""The overlay with the stock `@trpc/client`, v11 over Server-Sent Events and WebSocket, v10 over WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import httpx
import pytest
from websockets.asyncio.client import connect

from shadow.events import Draft
from shadow.json import Json
from tests.support.feeds import CONTRACT, Running, SseReader, running_feed, sse
from tests.support.node_client import Client, Link, NodeClient, Transformer, mutation, query, subscription


@pytest.fixture(name="feed")
async def _feed(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_feed(tmp_path / "log.db") as feed:
        yield feed


Way = tuple[Link, Literal[10, 11], Transformer]
WAYS: list[Way] = [
    ("httpSubscriptionLink", 11, "none"),
    ("httpSubscriptionLink", 11, "superjson"),
    ("httpSubscriptionLink", 11, "devalue"),
    ("wsLink", 11, "none"),
    ("wsLink", 11, "superjson"),
    ("wsLink", 11, "devalue"),
    ("wsLink", 10, "none"),
    ("wsLink", 10, "superjson"),
]


def speaking(transformer: str) -> str:
    return CONTRACT.replace('transformer = "none"', f'transformer = "{transformer}"')


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0]} v{way[1]} {way[2]}")
async def test_a_stock_client_replays_and_follows(tmp_path: Path, node_client: NodeClient, way: Way) -> None:
    link, version, transformer = way
    async with running_feed(tmp_path / "log.db", speaking(transformer)) as feed:
        client = Client(f"{feed.url}/trpc", link, version, transformer)
        await feed.say("session:a", "early", number=1)
        await feed.say("config:ai", "other")
        wish = {"pattern": "session:*", "replayLast": 5}
        async with node_client.follow(client, "events.subscribe", wish) as items:
            early = await anext(items)
            cursor = await feed.say("session:b", "late", text="hé\n😀")
            late = await anext(items)
            feed.subscriptions.feed.tail.ephemeral(Draft("x", "session:b", "delta", 5, {"text": "…"}))
            delta = await anext(items)

    assert (early["id"], early["data"]["type"]) == (f"{feed.log.head.epoch}-1", "early")
    assert late == {
        "id": cursor,
        "data": {
            "id": feed.written[-1].id,
            "cursor": {"timestamp": 1_700_000_000_000, "sequence": 3},
            "channel": "session:b",
            "type": "late",
            "timestamp": 1_700_000_000_000,
            "payload": {"text": "hé\n😀", "type": "late"},
        },
    }
    assert (delta["id"], delta["data"]["cursor"], delta["data"]["type"]) == (cursor, None, "delta")


@pytest.mark.parametrize("link", ["httpSubscriptionLink", "wsLink"])
async def test_each_way_of_subscribing_selects_its_channels(feed: Running, node_client: NodeClient, link: Link) -> None:
    client = Client(f"{feed.url}/trpc", link)
    await feed.say_all([(channel, channel, {}) for channel in ("session:a", "session:b", "config:ai", "config:rules")])

    async def seen(path: str, wish: Json, take: int) -> list[str]:
        result = await node_client.call(client, subscription(path, wish, take=take))
        assert result.error is None
        return [item["data"]["channel"] for item in result.items]

    assert await seen("events.subscribeToSession", {"sessionId": "b", "replayLast": 9}, 1) == ["session:b"]
    assert await seen("events.subscribeToAllSessions", {"replayLast": 9}, 2) == ["session:a", "session:b"]
    assert await seen("events.subscribe", {"channels": ["config:rules", "session:a"], "replayLast": 9}, 2) == [
        "session:a",
        "config:rules",
    ]
    assert await seen("events.subscribe", {"pattern": "*", "fromCursor": {"timestamp": 0, "sequence": 2}}, 2) == [
        "config:ai",
        "config:rules",
    ]


@pytest.mark.parametrize(("link", "version"), [("httpSubscriptionLink", 11), ("wsLink", 11)])
async def test_a_client_that_was_away_goes_on_where_it_was(
    tmp_path: Path, node_client: NodeClient, link: Link, version: Literal[10, 11]
) -> None:
    """The proxy stops and starts again; the client is left alone all the while."""
    database = tmp_path / "log.db"
    async with running_feed(database) as feed:
        port = int(feed.url.rpartition(":")[2])
        client = Client(f"{feed.url}/trpc", link, version)
        following = node_client.follow(client, "events.subscribe", {"pattern": "session:*"})
        items = await following.__aenter__()
        await feed.say("session:a", "one")
        seen = [await anext(items)]
        await feed.say("config:ai", "not asked for")
    async with running_feed(database, port=port) as again:
        await again.say("session:a", "two")
        await again.say("session:b", "three")
        seen += [await anext(items), await anext(items)]
        await following.__aexit__(None, None, None)

    assert [item["data"]["type"] for item in seen] == ["one", "two", "three"]


@pytest.mark.parametrize("link", ["httpSubscriptionLink", "wsLink"])
async def test_a_cursor_of_another_log_is_answered_with_a_reset_that_can_be_recovered_from(
    feed: Running, node_client: NodeClient, link: Link
) -> None:
    client = Client(f"{feed.url}/trpc", link)
    await feed.put("n1", title="T")
    head = str(feed.log.head)
    async with node_client.follow(client, "events.subscribe", {"pattern": "*", "fromCursor": "zzzzzz-7"}) as items:
        reset = await anext(items)
        state = await node_client.call(
            Client(f"{feed.url}/trpc"), query("events.snapshot", {"entity": "note", "at": reset["id"]})
        )
        await feed.say("session:a", "next")
        following = await anext(items)

    assert (reset["id"], reset["data"]["type"]) == (head, "reset")
    assert reset["data"]["payload"] == {
        "type": "reset",
        "reason": "foreign",
        "cursor": head,
        "snapshot": "events.snapshot",
    }
    assert state.data["cursor"] == head
    assert state.data["items"] == [{"key": "n1", "position": 1, "fields": {"title": "T"}}]
    assert following["data"]["type"] == "next"


@pytest.mark.parametrize("link", ["httpLink", "httpBatchLink", "httpBatchStreamLink", "wsLink"])
@pytest.mark.parametrize("transformer", ["none", "superjson", "devalue"])
async def test_queries_and_mutations_are_answered_over_every_link(
    tmp_path: Path, node_client: NodeClient, link: Link, transformer: Transformer
) -> None:
    async with running_feed(tmp_path / "log.db", speaking(transformer)) as feed:
        client = Client(f"{feed.url}/trpc", link, 11, transformer)
        event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}, "id": "mine"}
        run = await node_client.run(
            client,
            mutation("events.publish", event),
            query("events.getChannelInfo", {"channel": "app:demo"}),
            query("events.getChannelInfo", {}, together=True),
        )
    published, info, wrong = run.results
    assert published.data["cursor"] == f"{feed.log.head.epoch}-1"
    assert info.data["events"] == 1
    assert info.data["last"]["payload"] == {"text": "hi", "type": "notice"}
    assert wrong.error is not None
    assert wrong.error.code == "BAD_REQUEST"


async def test_a_conflict_tells_where_the_channel_is(feed: Running, node_client: NodeClient) -> None:
    event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}, "expectedPosition": 0}
    run = await node_client.run(
        Client(f"{feed.url}/trpc"), mutation("events.publish", event), mutation("events.publish", event)
    )
    error = run.results[1].error
    assert error is not None
    assert (error.code, error.data["position"], error.data["cursor"]) == ("CONFLICT", 1, f"{feed.log.head.epoch}-1")


@pytest.mark.parametrize("link", ["httpSubscriptionLink", "wsLink"])
@pytest.mark.parametrize("wish", [{"pattern": "a*b"}, {"pattern": 7}, {"replayLast": -1}, {"fromCursor": "x"}, "text"])
async def test_what_cannot_be_understood_is_an_error_that_ends_the_subscription(
    feed: Running, node_client: NodeClient, link: Link, wish: Json
) -> None:
    result = await node_client.call(Client(f"{feed.url}/trpc", link), subscription("events.subscribe", wish, take=1))
    assert result.error is not None
    assert result.error.code == "BAD_REQUEST"


@pytest.mark.parametrize("link", ["httpBatchLink", "httpBatchStreamLink"])
async def test_a_batch_of_both_is_answered_by_both(feed: Running, node_client: NodeClient, link: Link) -> None:
    await feed.say("session:a")
    run = await node_client.run(
        Client(f"{feed.url}/trpc", link),
        query("session.first", {"n": 1}),
        query("events.getChannelInfo", {"channel": "session:a"}, together=True),
        query("session.second", {"n": 2}, together=True),
    )
    first, info, second = run.results
    (exchange,) = run.http
    assert info.data["events"] == 1
    assert first.data == second.data
    assert first.data["path"] == "/trpc/session.first,session.second"
    assert json.loads(httpx.QueryParams(first.data["query"])["input"]) == {"0": {"n": 1}, "1": {"n": 2}}
    assert "trpc-accept" not in first.data["headers"]
    assert ("x-legacy", "yes") in exchange.headers


async def test_mutations_of_both_kinds_go_out_in_one_post(feed: Running, node_client: NodeClient) -> None:
    event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}}
    run = await node_client.run(
        Client(f"{feed.url}/trpc", "httpBatchLink"),
        mutation("events.publish", event),
        mutation("session.create", {"n": 1}, together=True),
    )
    published, legacys = run.results
    assert published.data["cursor"] is not None
    assert (legacys.data["path"], json.loads(legacys.data["body"])) == ("/trpc/session.create", {"0": {"n": 1}})


async def test_without_a_websocket_of_the_legacy_its_calls_fail_clearly(feed: Running, node_client: NodeClient) -> None:
    result = await node_client.call(Client(f"{feed.url}/trpc", "wsLink"), query("session.list"))
    assert result.error is not None
    assert result.error.code == "NOT_IMPLEMENTED"
    assert "over HTTP" in result.error.message


async def test_the_frames_of_a_websocket_are_those_that_stock_clients_need(feed: Running) -> None:
    async with connect(f"{feed.url.replace('http', 'ws')}/trpc?connectionParams=1") as socket:
        await socket.send('{"method":"connectionParams","data":{"token":"t"}}')
        await socket.send("PING")
        assert await socket.recv() == "PONG"
        wish = {"path": "events.subscribe", "input": {"pattern": "*"}, "lastEventId": f"{feed.log.head.epoch}-0"}
        subscribe = {"id": 1, "method": "subscription", "params": wish}
        info = {"id": 2, "method": "query", "params": {"path": "events.getChannelInfo", "input": {"channel": "c"}}}
        await socket.send(json.dumps([subscribe, info]))
        frames = [json.loads(await socket.recv()) for _ in range(2)]
        assert {"id": 1, "result": {"type": "started"}} in frames
        await socket.send(json.dumps(subscribe))
        assert json.loads(await socket.recv())["error"]["message"] == "Duplicate id 1"
        await socket.send('{"id":1,"method":"subscription.stop"}')
        assert json.loads(await socket.recv()) == {"id": 1, "result": {"type": "stopped"}}
        await socket.send(json.dumps({"id": 3, "method": "query", "params": {"path": "events.subscribe"}}))
        assert json.loads(await socket.recv())["error"]["data"]["code"] == "NOT_FOUND"
    await feed.until_readers(0)


async def test_an_address_may_carry_the_resumption(feed: Running) -> None:
    await feed.say_all([("session:a", "one", {}), ("session:a", "two", {})])
    url = f"{feed.url}/trpc/events.subscribeToAllSessions"

    async def first(reader: SseReader) -> str:
        connected = await reader.next()
        assert connected.event == "connected"
        return (await reader.item())["type"]  # type: ignore[no-any-return]

    wish = json.dumps({"lastEventId": f"{feed.log.head.epoch}-0"})
    resume = f"{feed.log.head.epoch}-1"
    async with sse(url, input=wish) as by_input:
        assert await first(by_input) == "one"
    async with sse(url, input=wish, lastEventId=resume) as by_query:
        assert await first(by_query) == "two"
    async with sse(url, input=wish, headers={"last-event-id": resume}) as by_header:
        assert await first(by_header) == "two"


async def test_a_mutation_of_the_overlay_needs_a_post(feed: Running) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{feed.url}/trpc/events.publish")
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (405, "METHOD_NOT_SUPPORTED")
