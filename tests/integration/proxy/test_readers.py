"""Many readers, slow readers, readers who come and go: each sees every event once, and none is in another's way."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from proxy.subscriptions.feed import Pace
from proxy.trpc.sse import SseDecoder, SseEvent
from tests.support.feeds import Running, running_feed, sse

MANY = 1000


@pytest.fixture(name="many_files")
def _many_files() -> Iterator[None]:
    """Both ends of a thousand connections are open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Listener(asyncio.Protocol):
    """A reader that costs next to nothing, so that a thousand of them fit into a test."""

    def __init__(self, path: str, wanted: int) -> None:
        self.path = path
        self.wanted = wanted
        self.positions: list[int] = []
        self.started = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()
        self._decoder = SseDecoder()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(f"GET {self.path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        for event in self._decoder.feed(data):
            if event.event == "message":
                self.positions.append(json.loads(event.data)["cursor"]["sequence"])
            elif not self.started.done():
                self.started.set_result(None)
        if len(self.positions) >= self.wanted and not self.done.done():
            self.done.set_result(None)


async def listen(feed: Running, path: str, wanted: int) -> Listener:
    port = int(feed.url.rpartition(":")[2])
    _, listener = await asyncio.get_running_loop().create_connection(lambda: Listener(path, wanted), "127.0.0.1", port)
    return listener


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_readers_of_one_channel_see_the_same(tmp_path: Path) -> None:
    async with running_feed(tmp_path / "log.db") as feed:
        listeners = [await listen(feed, "/_changeover/events?channel=session:*", 50) for _ in range(MANY)]
        await asyncio.gather(*(listener.started for listener in listeners))
        assert feed.subscriptions.feed.readers == MANY
        for _ in range(10):
            await feed.say_all([("session:a", "said", {"n": 1})] * 5)
        await asyncio.gather(*(listener.done for listener in listeners))
        for listener in listeners:
            listener.transport.abort()

    assert all(listener.positions == list(range(1, 51)) for listener in listeners)


@pytest.mark.usefixtures("many_files")
async def test_a_storm_of_readers_who_replay_does_not_stop_writers(tmp_path: Path) -> None:
    """They come from different places far back, so that the log has to be read; writing goes on meanwhile."""
    async with running_feed(tmp_path / "log.db") as feed:
        for _ in range(10):
            await feed.say_all([("session:a", "said", {})] * 500)
        end = 5000
        start = [random.Random(number).randrange(4000) for number in range(100)]
        listeners = await asyncio.gather(
            *(listen(feed, f"/_changeover/events?channel=*&after={place}", end + 20 - place) for place in start)
        )
        for _ in range(20):
            await feed.say("session:b")
        await asyncio.gather(*(listener.done for listener in listeners))
        for listener in listeners:
            listener.transport.abort()

    for place, listener in zip(start, listeners, strict=True):
        assert listener.positions == list(range(place + 1, end + 21))


async def test_readers_who_replay_and_readers_who_are_live_see_one_order(tmp_path: Path) -> None:
    """Whoever catches up goes over to being live in the middle of what is committed meanwhile."""
    async with running_feed(tmp_path / "log.db") as feed:
        await feed.say_all([("session:a", "said", {})] * 600)
        live = [await listen(feed, "/_changeover/events?channel=session:*", 300) for _ in range(50)]
        await asyncio.gather(*(listener.started for listener in live))
        late = []
        for number in range(300):
            await feed.say("session:a")
            if number % 6 == 0:
                late.append(await listen(feed, f"/_changeover/events?channel=session:*&after={number}", 900 - number))
        await asyncio.gather(*(listener.done for listener in [*live, *late]))
        for listener in [*live, *late]:
            listener.transport.abort()

    assert all(listener.positions == list(range(601, 901)) for listener in live)
    for number, listener in enumerate(late):
        assert listener.positions == list(range(6 * number + 1, 901))


async def test_readers_who_go_while_others_are_served_take_nothing_from_them(tmp_path: Path) -> None:
    dice = random.Random(11)
    async with running_feed(tmp_path / "log.db") as feed:
        listeners = [await listen(feed, "/_changeover/events?channel=session:*", 100) for _ in range(200)]
        await asyncio.gather(*(listener.started for listener in listeners))
        going = dice.sample(listeners, 100)
        for number in range(100):
            saying = asyncio.gather(feed.say("session:a"))
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            going[number].transport.abort()
            await saying
        staying = [listener for listener in listeners if listener not in going]
        await asyncio.gather(*(listener.done for listener in staying))
        await feed.until_readers(len(staying))
        for listener in staying:
            listener.transport.abort()
        await feed.until_readers(0)

    assert all(listener.positions == list(range(1, 101)) for listener in staying)
    assert all(listener.positions == list(range(1, len(listener.positions) + 1)) for listener in going)


async def stuck(feed: Running) -> socket.socket:
    """A client that asks and then does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", int(feed.url.rpartition(":")[2])))
    await loop.sock_sendall(client, b"GET /_changeover/events?channel=session:* HTTP/1.0\r\nHost: test\r\n\r\n")
    return client


async def everything(client: socket.socket) -> list[SseEvent]:
    loop = asyncio.get_running_loop()
    decoder = SseDecoder()
    events: list[SseEvent] = []
    while data := await loop.sock_recv(client, 65536):
        events += decoder.feed(data)
    return events


async def test_a_reader_that_takes_nothing_is_cut_off_with_the_cursor_to_come_back_with(tmp_path: Path) -> None:
    async with running_feed(tmp_path / "log.db", pace=Pace(slow=0.3, look=0.05)) as feed:
        with ExitStack() as stack:
            client = stack.enter_context(await stuck(feed))
            await feed.until_readers(1)
            for _ in range(100):
                await feed.say_all([("session:a", "said", {"text": "x" * 1000})] * 80)
            await feed.until_readers(0)
            seen = await everything(client)
        cut = seen[-1]
        cursor = json.loads(cut.data)["cursor"]
        first = [json.loads(event.data)["cursor"]["sequence"] for event in seen if event.event == "message"]
        async with sse(f"{feed.url}/_changeover/events", channel="session:*", after=cursor) as again:
            rest = [item["cursor"]["sequence"] for item in await again.items(8000 - len(first))]

    assert (cut.event, json.loads(cut.data)["reason"]) == ("cut", "slow")
    assert first + rest == list(range(1, 8001))


async def test_a_websocket_reader_that_takes_nothing_is_cut_off_too(tmp_path: Path) -> None:
    async with running_feed(tmp_path / "log.db", pace=Pace(slow=0.3, look=0.05)) as feed:
        url = feed.url.replace("http", "ws") + "/_changeover/events?channel=session:*"
        positions, end = [], None
        async with connect(url, max_queue=1, compression=None, ping_interval=None) as client:
            await client.recv()
            for _ in range(100):
                await feed.say_all([("session:a", "said", {"text": "x" * 1000})] * 80)
            await feed.until_readers(0)
            try:
                async for message in client:
                    positions.append(json.loads(message)["event"]["cursor"]["sequence"])  # noqa: PERF401 - ends in an error
            except ConnectionClosed as closed:
                end = closed.rcvd

    assert end is not None
    assert (end.code, end.reason) == (1013, f"too slow; go on after {feed.log.head.epoch}-{len(positions)}")
    assert positions == list(range(1, len(positions) + 1))


async def test_a_reader_that_comes_and_goes_sees_each_event_once(tmp_path: Path) -> None:
    """It breaks off wherever it is, through restarts of the server; what it saw in the end is the log."""
    dice = random.Random(7)
    database = tmp_path / "log.db"
    seen: list[int] = []
    cursor, head = "", 0
    for _ in range(6):
        async with running_feed(database) as feed:
            for _ in range(4):
                async with (
                    sse(f"{feed.url}/_changeover/events", channel="session:*", after=cursor or "0") as reader,
                    asyncio.TaskGroup() as group,
                ):
                    group.create_task(feed.say_all([("session:a", "said", {})] * dice.randrange(1, 40)))
                    while (event := await reader.next()).event != "message":
                        pass
                    for _ in range(dice.randrange(20)):
                        seen.append(json.loads(event.data)["cursor"]["sequence"])
                        cursor = reader.last_id
                        if seen[-1] == feed.log.head.position:
                            break
                        event = await reader.next()
            head = feed.log.head.position
    async with running_feed(database) as feed, sse(f"{feed.url}/_changeover/events", after=cursor) as reader:
        seen += [item["cursor"]["sequence"] for item in await reader.items(head - seen[-1])]

    assert seen == list(range(1, head + 1))
