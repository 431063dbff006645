"""One request's way through: streams, clients that leave, legacies that fail, and what a server must not get wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.forward import Scope
from proxy.framing import Pairs
from proxy.server import CannotListen, bind, bind_unix
from proxy.upstream import Limits, Upstream
from tests.support import scripted as scripted_support
from tests.support.scripted import Script, Visit, converse, proxied, scripted, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(autouse=True, params=["common", "express"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each promise holds on both roads: as an ASGI application, and from connection to connection."""
    monkeypatch.setattr("tests.support.scripted.EXPRESS", request.param == "express")


class Seen:
    """What a legacy was sent, request by request."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.requests.append(request)
            await visit.say(OK)


@asynccontextmanager
async def through(script: Script) -> AsyncIterator[int]:
    """The port of a proxy in front of `script`."""
    async with scripted(script) as legacy, proxied(Upstream(legacy.url)) as server:
        yield server.port


@asynccontextmanager
async def client(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_a_read_takes_the_road_that_is_tested() -> None:
    """Or everything else here would show one road twice."""
    scripted_support.TAKEN.clear()
    async with through(Seen()) as port:
        await converse(port, GET, until=b"ok")
    assert len(scripted_support.TAKEN) == (1 if scripted_support.EXPRESS else 0)


# --- streams ------------------------------------------------------------------------------------------------------


async def test_each_piece_of_a_stream_reaches_the_client_at_once() -> None:
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await turns.get():
            await visit.say(b"%x\r\n%b\r\n" % (len(piece), piece))
        await visit.say(b"0\r\n\r\n")

    async with through(script) as port, client(port) as (reader, writer):
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")  # before any piece of the body
        assert b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked" in head
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            turns.put_nowait(piece)
            assert await reader.readuntil(b"\n\n\r\n") == b"9\r\n" + piece + b"\r\n"
        turns.put_nowait(b"")
        assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_each_piece_of_an_upload_reaches_the_legacy_at_once() -> None:
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        while (line := await visit.reader.readuntil(b"\r\n")) != b"0\r\n":
            arrived.put_nowait((await visit.reader.readexactly(int(line, 16) + 2))[:-2])
        await visit.reader.readuntil(b"\r\n")
        await visit.say(OK)

    async with through(script) as port, client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"one", b"three"):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert await arrived.get() == piece
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")


async def test_a_client_who_does_not_read_makes_the_legacy_wait() -> None:
    written = 0
    size = 64 << 20

    async def script(visit: Visit) -> None:
        nonlocal written
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            await visit.say(b"x" * 65536)
            written += 65536

    async with through(script) as port, client(port) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while written != before:  # nothing more is taken by anybody
            before = written
            await asyncio.sleep(0.05)
        assert written < size // 2
        assert len(await reader.readexactly(size)) == size


# --- clients that leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True])
async def test_a_client_that_leaves_cancels_a_query(answered: bool) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        if answered:
            await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        arrived.set()
        try:
            assert await visit.reader.read() == b""
        finally:
            gone.set()

    async with through(script) as port:
        async with client(port) as (reader, writer):
            writer.write(GET)
            await arrived.wait()
            if answered:
                await reader.readuntil(b"x\r\n")
        await gone.wait()


async def test_a_mutation_that_is_all_sent_runs_on_without_its_client() -> None:
    arrived, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        arrived.set()
        await go.wait()
        await visit.say(OK)
        assert await visit.request()  # the connection went back to the pool, as after any answer
        await visit.say(OK)
        done.set()

    async with through(script) as port:
        async with client(port) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
            await arrived.wait()
        go.set()
        await converse(port, GET, until=b"ok")
        await done.wait()


async def test_an_upload_that_its_client_breaks_off_never_becomes_a_whole_request() -> None:
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    arrived = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"part")
        arrived.set()
        ended.set_result(await visit.reader.read())

    async with through(script) as port:
        async with client(port) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
            await arrived.wait()
        assert b"0\r\n" not in await ended


# --- legacies that fail -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
)
async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(framing: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\n" + framing)

    async with through(script) as port:
        got = await converse(port, GET)
    assert b"half" in got
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_failure_is_told_in_the_shape_asked_for() -> None:
    def refuse(scope: Scope, status: int, sentence: str) -> tuple[int, Pairs, bytes]:
        body = f"{scope['path']} {status} {sentence}".encode()
        return 299, [(b"Content-Length", b"%d" % len(body))], body

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        upstream = Upstream(f"http://127.0.0.1:{taken.getsockname()[1]}")
        async with proxied(upstream, refuse=refuse) as server:
            got = await converse(server.port, GET, until=b"listens at 127.0.0.1")
    assert got.startswith(b"HTTP/1.1 299 ")
    assert b"/ 502 nothing listens at" in got


async def test_a_legacy_that_is_too_slow_is_a_gateway_timeout_and_the_client_stays() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.reader.read()

    async with (
        scripted(script) as legacy,
        proxied(Upstream(legacy.url, limits=Limits(response_timeout=0.02))) as server,
        client(server.port) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(GET)
            assert (await reader.readuntil(b"time\n")).startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")


# --- what a server must not get wrong -----------------------------------------------------------------------------


async def test_pipelined_requests_are_answered_in_order() -> None:
    seen = Seen()
    async with through(seen) as port, client(port) as (reader, writer):
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)))
        for _ in range(20):
            assert await reader.readuntil(b"ok") == OK
    assert [request.split()[1] for request in seen.requests] == [b"/%d" % number for number in range(20)]


async def test_a_client_that_expects_100_continue_is_told_to() -> None:
    seen = Seen()
    async with through(seen) as port, client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert await reader.readuntil(b"ok") == OK
    assert seen.requests[0].endswith(b"\r\n\r\nhi")
    assert b"Expect" not in seen.requests[0]


async def test_interim_answers_reach_a_client_before_the_answer() -> None:
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await go.wait()
        await visit.say(OK)

    async with through(script) as port, client(port) as (reader, writer):
        writer.write(GET)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        go.set()
        assert await reader.readuntil(b"ok") == OK


async def test_an_offer_to_upgrade_that_nobody_knows_is_a_plain_request_with_its_body() -> None:
    """Java's client offers h2c with its first request; its body must not be read as another request."""
    seen = Seen()
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n"
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    request = b"POST / HTTP/1.1\r\nHost: a\r\n" + offer + b"Content-Length: %d\r\n\r\n" % len(inner) + inner
    async with through(seen) as port, client(port) as (reader, writer):
        writer.write(request)
        assert await reader.readuntil(b"ok") == OK
        writer.write(GET)
        assert await reader.readuntil(b"ok") == OK
    assert len(seen.requests) == 2
    assert seen.requests[0].endswith(b"\r\n\r\n" + inner)
    assert b"pgrade" not in seen.requests[0]


async def test_http_1_0_is_answered_without_chunks_and_closed() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")

    async with through(script) as port:
        assert await converse(port, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n") == (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok"
        )


async def test_head_is_answered_with_the_head_only() -> None:
    async def script(visit: Visit) -> None:
        while await visit.request():
            await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    async with through(script) as port, client(port) as (reader, writer):
        for _ in range(2):
            writer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


async def test_a_client_that_asks_to_close_is_closed() -> None:
    async with through(Seen()) as port:
        got = await converse(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await visit.reader.read()

    async with through(script) as port, client(port) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 70_000)
        assert (await reader.readuntil(b"big")).startswith(b"HTTP/1.1 413 Payload Too Large\r\n")
        writer.write(b"x" * 930_000 + GET)
        assert (await reader.readuntil(b"big")).startswith(b"HTTP/1.1 413 ")


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n Content-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"CONNECT b:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
async def test_what_could_be_read_in_two_ways_reaches_no_legacy(request_bytes: bytes, status: int) -> None:
    seen = Seen()
    async with through(seen) as port:
        got = await converse(port, request_bytes, until=b"\r\n\r\n")
    assert int(got.split()[1]) == status
    assert seen.requests == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3;x\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
    ],
)
async def test_a_body_whose_chunks_cannot_be_read_is_never_a_whole_request(chunks: bytes) -> None:
    whole: list[bytes] = []

    async def script(visit: Visit) -> None:
        request = await visit.reader.read()
        if request.endswith(b"0\r\n\r\n"):
            whole.append(request)

    async with through(script) as port:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        await converse(port, head + chunks + SMUGGLED)
    assert whole == []


async def test_a_head_without_end_is_refused() -> None:
    async with through(Seen()) as port, client(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        writer.write(b"X: " + b"y" * 2_000_000)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 431 ")


# --- serving ------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_told_with_what_to_do() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: .*another program"):
            bind("127.0.0.1", port)


def test_a_host_that_is_not_there_is_told() -> None:
    with pytest.raises(CannotListen, match=r"198\.51\.100\.1"):
        bind("198.51.100.1", 0)


def test_a_unix_socket_left_over_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    bind_unix(path).close()
    with bind_unix(path), pytest.raises(CannotListen, match="another program"):
        bind_unix(path)


async def test_stopping_lets_a_running_request_end() -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        arrived.set()
        await go.wait()
        await visit.say(OK)

    async with (
        scripted(script) as legacy,
        proxied(Upstream(legacy.url)) as server,
        client(server.port) as (reader, writer),
        asyncio.TaskGroup() as group,
    ):
        writer.write(GET)
        await arrived.wait()
        stopping = group.create_task(server.stop())
        await until(lambda: server._listener.fileno() == -1)  # closed: nobody new is let in
        go.set()
        assert (await reader.read()).endswith(b"Connection: close\r\n\r\nok")
        await stopping


async def test_nothing_is_read_after_a_request_that_could_be_read_in_two_ways() -> None:
    seen = Seen()
    async with through(seen) as port:
        got = await converse(port, b"POST / HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\n\r\n" + SMUGGLED)
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close" in got
    assert seen.requests == []
