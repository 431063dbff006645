"""Pieces that are pushed to a client in a plain call: what `send` promises holds for them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from proxy.exchange import HIGH_WATER, Exchange
from proxy.forward import exchange_of
from proxy.server import bind, serving

PIECE = b"x" * 10_000

Answer: TypeAlias = Callable[[Exchange], Awaitable[None]]


@asynccontextmanager
async def client_of(answer: Answer, version: str = "1.1") -> AsyncIterator[asyncio.StreamReader]:
    """Ask a server that answers like this, and read only when told to."""
    failed: list[BaseException] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        exchange = exchange_of(scope)
        assert exchange is not None
        try:
            await answer(exchange)
        except BaseException as error:
            failed.append(error)
            raise

    async with serving(app, bind("127.0.0.1", 0), grace=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=4096)
        writer.write(f"GET / HTTP/{version}\r\nHost: test\r\n\r\n".encode())
        try:
            yield reader
        finally:
            writer.close()
    assert not failed


async def start(exchange: Exchange, *headers: tuple[bytes, bytes]) -> None:
    await exchange.send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def send(exchange: Exchange, body: bytes, *, more: bool = True) -> None:
    await exchange.send({"type": "http.response.body", "body": body, "more_body": more})


async def test_pushed_and_sent_pieces_arrive_in_one_order_and_framed_alike() -> None:
    async def answer(exchange: Exchange) -> None:
        await start(exchange)
        await send(exchange, b"one")
        assert exchange.push(b"two")
        assert exchange.push(b"three")
        await send(exchange, b"four")
        assert exchange.push(b"two")
        await send(exchange, b"", more=False)

    async with client_of(answer) as reader:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"0\r\n\r\n")

    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n4\r\nfour\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_a_client_of_http_1_0_is_pushed_bare_bytes() -> None:
    async def answer(exchange: Exchange) -> None:
        await start(exchange)
        await send(exchange, b"one")
        assert exchange.push(b"two")
        await send(exchange, b"", more=False)

    async with client_of(answer, "1.0") as reader:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()

    assert body == b"onetwo"


async def test_nothing_is_pushed_before_the_head_nor_after_the_end_nor_into_a_body_of_known_length() -> None:
    pushed: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        pushed.append(exchange.push(b"early"))
        await start(exchange, (b"content-length", b"4"))
        pushed.append(exchange.push(b"with the head"))
        await send(exchange, b"bo")
        pushed.append(exchange.push(b"dy"))
        await send(exchange, b"dy", more=False)
        pushed.append(exchange.push(b"late"))

    async with client_of(answer) as reader:
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(4)

    assert (pushed, body) == ([False] * 4, b"body")


async def test_a_client_that_does_not_read_is_pushed_no_more_than_its_buffer_holds() -> None:
    """What was pushed is taken once; what was refused is left to `send`, which waits; then pushing goes on."""
    pushed = 0
    held = 0
    full = asyncio.Event()

    async def answer(exchange: Exchange) -> None:
        nonlocal pushed, held
        await start(exchange)
        await send(exchange, b"-")
        while pushed < 5_000 and exchange.push(PIECE):
            pushed += 1
        held = exchange._connection._transport.get_write_buffer_size()
        full.set()
        assert not exchange.push(PIECE)
        await send(exchange, b"+")
        assert exchange.push(b"!")
        await send(exchange, b"", more=False)

    async with client_of(answer, "1.0") as reader:
        await full.wait()
        await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()

    assert held <= HIGH_WATER + len(PIECE)
    assert body == b"-" + PIECE * pushed + b"+!"


async def test_nothing_is_pushed_to_a_client_that_has_gone() -> None:
    gone = asyncio.Event()
    pushed: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        await start(exchange)
        await send(exchange, b"-")
        exchange.on_disconnect = gone.set
        await gone.wait()
        pushed.append(exchange.push(b"anybody?"))

    async with client_of(answer) as reader:
        await reader.readuntil(b"-")
    assert pushed == [False]
