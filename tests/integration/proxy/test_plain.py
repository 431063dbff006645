"""Plain Server-Sent Events and WebSocket, with httpx and websockets as clients of a real server over a real log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from proxy.subscriptions.feed import Pace
from shadow.events import Draft, Effect
from shadow.retention import Retention
from tests.support.feeds import CONTRACT, Running, running_feed, sse


@pytest.fixture(name="feed")
async def _feed(tmp_path: Path) -> AsyncIterator[Running]:
    async with running_feed(tmp_path / "log.db", token="s3cret") as feed:
        yield feed


def events(feed: Running) -> str:
    return f"{feed.url}/_changeover/events"


async def test_a_reader_begins_now_and_is_told_the_cursor_of_now(feed: Running) -> None:
    before = await feed.say("session:a")
    async with sse(events(feed), channel="session:*") as reader:
        hello = await reader.next()
        await feed.say("session:a", "said", text="hi")
        item = await reader.item()

    assert (hello.event, hello.id, json.loads(hello.data)) == ("hello", before, {"cursor": before})
    assert item["channel"] == "session:a"
    assert item["payload"] == {"text": "hi", "type": "said"}
    assert item["cursor"] == {"timestamp": 1_700_000_000_000, "sequence": 2}


async def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(feed: Running) -> None:
    async with sse(events(feed), channel="session:*") as reader:
        await feed.say_all([("session:a", "one", {}), ("config:ai", "two", {}), ("session:b", "three", {})])
        first = [item["type"] for item in await reader.items(1)]
        cursor = reader.last_id
    await feed.say("session:c", "four")
    async with sse(events(feed), headers={"last-event-id": cursor}, channel="session:*") as again:
        rest = [item["type"] for item in await again.items(2)]

    assert (first, rest) == (["one"], ["three", "four"])


async def test_last_shows_the_last_events_of_the_channels_again_oldest_first(feed: Running) -> None:
    await feed.say_all([(f"session:{name}", name, {}) for name in "abc"] + [("config:ai", "other", {})])
    async with sse(events(feed), channel="session:*", last="2") as reader:
        assert [item["type"] for item in await reader.items(2)] == ["b", "c"]


async def test_several_channels_and_types_are_seen_in_one_order(feed: Running) -> None:
    async with sse(f"{events(feed)}?channel=session:a&channel=config:*&type=x,y&after=0") as reader:
        await feed.say_all([("session:a", "x", {}), ("config:ai", "z", {}), ("config:ai", "y", {}), ("app:q", "x", {})])
        assert [item["type"] for item in await reader.items(2)] == ["x", "y"]


@pytest.mark.parametrize(
    ("cursor", "why"), [("zzzzzz-3", "foreign"), ("{epoch}-99", "ahead")], ids=["of another log", "from the future"]
)
async def test_a_cursor_that_cannot_be_served_is_answered_with_a_reset(feed: Running, cursor: str, why: str) -> None:
    head = await feed.say("session:a")
    after = cursor.format(epoch=feed.log.head.epoch)
    async with sse(events(feed), after=after) as reader:
        assert (await reader.next()).event == "hello"
        reset = await reader.next()
        await feed.say("session:a", "next")
        item = await reader.item()

    assert reset.event == "reset"
    assert reset.id == head
    assert json.loads(reset.data) == {"reason": why, "cursor": head, "snapshot": "/_changeover/snapshot"}
    assert item["type"] == "next"


@pytest.mark.parametrize("query", ["after=x", "channel=a*b", "last=many", "channel="])
async def test_what_cannot_be_understood_is_refused_with_a_sentence(feed: Running, query: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{events(feed)}?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


async def test_cloud_events_are_told_on_request(feed: Running) -> None:
    async with sse(events(feed), headers={"accept": "text/event-stream, application/cloudevents+json"}) as reader:
        cursor = await feed.say("session:a", "said", text="hi")
        event = await reader.item()

    assert event == {
        "specversion": "1.0",
        "id": feed.written[0].id,
        "source": f"urn:changeover:{feed.log.head.epoch}",
        "type": "said",
        "subject": "session:a",
        "time": "2023-11-14T22:13:20.000Z",
        "datacontenttype": "application/json",
        "data": {"text": "hi"},
        "cursor": cursor,
        "sequence": "0000000000000000001",
    }


async def test_a_silent_stream_shows_life_and_how_far_the_reader_is(tmp_path: Path) -> None:
    async with (
        running_feed(tmp_path / "log.db", pace=Pace(heartbeat=0.05, look=0.01)) as feed,
        sse(events(feed), channel="session:*") as reader,
    ):
        await reader.next()
        cursor = await feed.say("config:ai")
        while (ping := await reader.next()).id != cursor:
            assert ping.event == "ping"
    assert json.loads(ping.data) == {"cursor": cursor}


async def test_a_stream_shows_life_again_after_what_it_was_given_live(tmp_path: Path) -> None:
    async with (
        running_feed(tmp_path / "log.db", pace=Pace(heartbeat=0.05, look=0.01)) as feed,
        sse(events(feed), channel="session:*") as reader,
    ):
        await reader.next()
        for _ in range(3):
            cursor = await feed.say("session:a")
            while (event := await reader.next()).event != "message":
                assert event.event == "ping"
            ping = await reader.next()
            assert (event.id, ping.event, ping.id) == (cursor, "ping", cursor)


async def test_an_ephemeral_event_is_shown_and_moves_no_cursor(feed: Running) -> None:
    async with sse(events(feed), channel="app:*") as reader:
        await reader.next()
        feed.subscriptions.feed.tail.ephemeral(Draft("x", "app:demo", "cursor-moved", 5, {"at": 3}))
        event = await reader.next()

    assert event.id is None
    assert json.loads(event.data)["cursor"] is None


async def test_a_snapshot_is_the_state_at_the_cursor_that_it_names(feed: Running) -> None:
    await feed.put("a", title="A")
    await feed.put("b", title="B")
    await feed.put("b", Effect.DELETE)
    cursor = str(feed.log.head)
    async with httpx.AsyncClient(trust_env=False) as http:
        now = (await http.get(f"{feed.url}/_changeover/snapshot", params={"entity": "note"})).json()
        await feed.put("a", title="A2")
        await feed.put("c", title="C")
        then = (await http.get(f"{feed.url}/_changeover/snapshot", params={"entity": "note", "at": cursor})).json()
        wrong = await http.get(f"{feed.url}/_changeover/snapshot", params={"entity": "nope"})

    assert now["cursor"] == then["cursor"] == cursor
    assert now["items"] == then["items"] == [{"key": "a", "position": 1, "fields": {"title": "A"}}]
    assert wrong.status_code == 400


async def test_an_event_is_published_once_however_often_it_is_sent(feed: Running) -> None:
    event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}, "id": "mine"}
    async with httpx.AsyncClient(trust_env=False) as http:
        first = await http.post(events(feed), json=event)
        again = await http.post(events(feed), json=event)
        other = await http.post(events(feed), json=event | {"payload": {"text": "else"}})

    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["cursor"] == again.json()["cursor"] == str(feed.log.head)
    assert first.json()["event"]["payload"] == {"text": "hi", "type": "notice"}


async def test_a_publication_that_expects_the_channel_elsewhere_is_told_where_it_is(feed: Running) -> None:
    event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}}
    async with httpx.AsyncClient(trust_env=False) as http:
        first = (await http.post(events(feed), json=event | {"expectedPosition": 0})).json()
        late = await http.post(events(feed), json=event | {"expectedPosition": 0})
        await feed.say("config:ai")
        right = await http.post(events(feed), json=event | {"expectedPosition": late.json()["cursor"]})

    assert (late.status_code, late.json()["cursor"]) == (409, first["cursor"])
    assert right.status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"type": "unknown"},
        {"channel": "session:a"},
        {"payload": {}},
        {"payload": {"text": "hi", "more": 1}},
        {"channel": "app:*"},
        {"id": 7},
        {"expectedPosition": "other-4"},
    ],
)
async def test_what_the_contract_does_not_let_clients_publish_is_refused(feed: Running, change: dict[str, str]) -> None:
    event = {"channel": "app:demo", "type": "notice", "payload": {"text": "hi"}} | change
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(events(feed), json=event)
    assert answer.status_code == 400
    assert feed.log.head.position == 0


async def test_an_event_published_as_ephemeral_is_stored_nowhere(feed: Running) -> None:
    async with sse(events(feed), channel="app:*") as reader:
        await reader.next()
        async with httpx.AsyncClient(trust_env=False) as http:
            event = {"channel": "app:demo", "type": "cursor-moved", "payload": {"at": 3}}
            answer = await http.post(events(feed), json=event)
        item = await reader.item()

    assert answer.json()["cursor"] is None
    assert item["payload"] == {"at": 3, "type": "cursor-moved"}
    assert feed.log.head.position == 0


async def test_a_websocket_reads_the_same_stream(feed: Running) -> None:
    await feed.say("session:a", "early")
    url = events(feed).replace("http", "ws") + "?channel=session:*&last=1"
    async with connect(url) as socket:
        hello = json.loads(await socket.recv())
        early = json.loads(await socket.recv())
        cursor = await feed.say("session:a", "live")
        live = json.loads(await socket.recv())

    assert hello == {"kind": "hello", "cursor": f"{feed.log.head.epoch}-0"}
    assert early["event"]["type"] == "early"
    assert (live["kind"], live["cursor"], live["event"]["type"]) == ("event", cursor, "live")


async def test_a_websocket_that_asks_for_nonsense_is_refused_at_the_door(feed: Running) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await connect(events(feed).replace("http", "ws") + "?after=x").__aenter__()
    assert refusal.value.response.status_code == 400


async def test_readers_are_sent_away_in_such_a_way_that_they_come_back_when_the_proxy_stops(tmp_path: Path) -> None:
    async with (
        running_feed(tmp_path / "log.db") as feed,
        sse(events(feed)) as reader,
        connect(events(feed).replace("http", "ws")) as socket,
    ):
        await reader.next()
        await socket.recv()
        assert feed.subscriptions.feed.readers == 2
        last = await feed.say("session:a", "last")
        await feed.subscriptions.feed.close()
        assert (await reader.item())["type"] == "last"
        with pytest.raises(StopAsyncIteration):
            await reader.next()
        assert json.loads(await socket.recv())["cursor"] == last
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_reader_that_has_gone_leaves_nothing_behind(feed: Running) -> None:
    async with sse(events(feed)) as reader, connect(events(feed).replace("http", "ws")) as socket:
        await reader.next()
        await socket.recv()
    await feed.until_readers(0)
    assert b"changeover_readers 0.0" in feed.metrics.render()


async def test_a_cursor_from_before_what_is_kept_is_answered_with_a_reset(tmp_path: Path) -> None:
    """Only readers of the channels concerned are told; who asks for the last events gets those that there are."""
    rules = CONTRACT + '\n[channel."session:*"]\nretention = { count = 1 }\n'
    async with running_feed(tmp_path / "log.db", rules) as feed:
        await feed.say_all([("session:a", "one", {}), ("session:b", "two", {}), ("session:a", "three", {})])
        await Retention(feed.contract, feed.log, lambda: 0).drop()
        database = tmp_path / "log.db"
    async with running_feed(database, rules) as feed:
        head = str(feed.log.head)
        async with sse(events(feed), channel="session:*", after="0") as reader:
            await reader.next()
            reset = await reader.next()
            await feed.say("session:a", "four")
            following = await reader.item()
        async with sse(events(feed), channel="session:b", after="0") as other:
            untouched = await other.item()
        async with sse(events(feed), channel="session:*", last="9") as latest:
            last = [item["type"] for item in await latest.items(3)]

    assert json.loads(reset.data) == {"reason": "dropped", "cursor": head, "snapshot": "/_changeover/snapshot"}
    assert following["type"] == "four"
    assert untouched["type"] == "two"
    assert last == ["two", "three", "four"]
