"""WebSockets pass through: messages, subprotocols, refusals and close codes, with somebody watching."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from proxy.forward import Receive, Scope, Send
from proxy.server import bind, serving
from proxy.upstream import Upstream
from proxy.websocket import Message, Relay, Watch, forward_websocket


@asynccontextmanager
async def through(
    legacy: Callable[[ServerConnection], Awaitable[None]],
    *,
    watch: Watch | None = None,
    refuse: Callable[[ServerConnection, Request], Response | None] | None = None,
    subprotocols: list[Subprotocol] | None = None,
) -> AsyncIterator[str]:
    """The URL of a proxy in front of a WebSocket server."""
    async with serve(
        legacy, "127.0.0.1", 0, process_request=refuse, subprotocols=subprotocols, max_size=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await forward_websocket(scope, receive, send, upstream, watch=watch)

        async with serving(app, bind("127.0.0.1", 0), grace=1) as proxy:
            yield f"ws://127.0.0.1:{proxy.port}"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("message", ["text ✓", b"\x00\xff", "", b"", "x" * 2_000_000])
async def test_messages_pass_both_ways_as_text_and_binary(message: Message) -> None:
    async with through(echo) as url, connect(url, proxy=None, max_size=None) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_the_handshake_keeps_target_headers_and_subprotocol() -> None:
    seen: list[Request] = []

    async def legacy(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append(connection.request)
        await connection.send("hello")

    async with (
        through(legacy, subprotocols=[Subprotocol("b")]) as url,
        connect(
            "ws://a.example/trpc?connectionParams=1&x=%2F",
            host="127.0.0.1",
            port=int(url.rpartition(":")[2]),
            proxy=None,
            additional_headers=[("Cookie", "s=1"), ("Origin", "http://o.example")],
            subprotocols=[Subprotocol("a"), Subprotocol("b")],
        ) as client,
    ):
        assert await client.recv() == "hello"
        assert client.subprotocol == "b"
    request = seen[0]
    assert request.path == "/trpc?connectionParams=1&x=%2F"
    assert request.headers.get_all("Host") == ["a.example"]
    assert request.headers.get_all("Cookie") == ["s=1"]
    assert request.headers.get_all("Origin") == ["http://o.example"]
    assert request.headers["X-Forwarded-Proto"] == "http"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "not you"), (1012, "restart")])
async def test_the_legacys_close_code_reaches_the_client(code: int, reason: str) -> None:
    async def legacy(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    async with through(legacy) as url, connect(url, proxy=None) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


async def test_the_clients_close_code_reaches_the_legacy() -> None:
    closes: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def legacy(connection: ServerConnection) -> None:
        await connection.wait_closed()
        closes.put_nowait((connection.close_code, connection.close_reason))

    async with through(legacy) as url:
        async with connect(url, proxy=None) as client:
            await client.close(4002, "done here")
        assert await closes.get() == (4002, "done here")


async def test_a_legacy_that_breaks_off_closes_the_client_with_bad_gateway() -> None:
    async def legacy(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with through(legacy) as url, connect(url, proxy=None) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1014


async def test_the_legacys_refusal_reaches_the_client() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        response = connection.respond(HTTPStatus.UNAUTHORIZED, "who are you?")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    async with through(echo, refuse=refuse) as url:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, proxy=None):
                pass
    answer = refused.value.response
    assert (answer.status_code, answer.body) == (401, b"who are you?")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_legacy_that_is_not_there_is_a_bad_gateway() -> None:
    upstream = Upstream("http://127.0.0.1:1")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await forward_websocket(scope, receive, send, upstream)

    async with serving(app, bind("127.0.0.1", 0), grace=1) as proxy:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{proxy.port}", proxy=None):
                pass
    assert refused.value.response.status_code == 502


class Recorder:
    """A watcher that remembers, changes one message, swallows one, and answers one itself."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.log: list[tuple[str, Message]] = []
        self.pending = asyncio.Event()
        self.over = asyncio.Event()
        self.closed = False

    async def client_message(self, message: Message) -> Message | None:
        self.log.append(("client", message))
        if message == "mine":
            await self.relay.to_client("answered here")
            return None
        return message

    async def server_message(self, message: Message) -> Message | None:
        self.log.append(("server", message))
        if message == "late":
            self.pending.set()
        return None if message == "secret" else message

    async def client_gone(self) -> None:
        self.log.append(("gone", ""))
        await self.pending.wait()

    async def legacy_gone(self) -> None:
        self.closed = True

    async def ended(self) -> None:
        self.over.set()


async def test_a_watcher_sees_changes_swallows_and_answers() -> None:
    watchers: list[Recorder] = []

    def watch(relay: Relay) -> Recorder:
        watchers.append(Recorder(relay))
        watchers[0].pending.set()
        return watchers[0]

    async with through(echo, watch=watch) as url, connect(url, proxy=None) as client:
        for message in ("one", "secret", "mine", "two"):
            await client.send(message)
        got = [await client.recv() for _ in range(3)]
    assert sorted(map(str, got)) == ["answered here", "one", "two"]
    assert [entry for entry in watchers[0].log if entry[0] == "server"] == [
        ("server", "one"),
        ("server", "secret"),
        ("server", "two"),
    ]


async def test_the_legacy_is_read_on_after_the_client_has_gone_until_the_watcher_has_enough() -> None:
    gone = asyncio.Event()
    watchers: list[Recorder] = []

    class Waiting(Recorder):
        async def client_gone(self) -> None:
            gone.set()
            await super().client_gone()

    def watch(relay: Relay) -> Recorder:
        watchers.append(Waiting(relay))
        return watchers[0]

    async def legacy(connection: ServerConnection) -> None:
        await connection.recv()
        await gone.wait()
        await connection.send("late")
        await connection.wait_closed()

    async with through(legacy, watch=watch) as url:
        async with connect(url, proxy=None) as client:
            await client.send("mutation")
        await watchers[0].over.wait()
    assert watchers[0].log == [("client", "mutation"), ("gone", ""), ("server", "late")]
