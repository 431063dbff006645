"""What only passes through goes from connection to connection; what cannot go on at once takes the common road.

That both roads lead to the same bytes is shown in test_forward.py and test_transparency.py, which take each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from proxy.forward import TOLD, plain_refusal
from proxy.http1 import HttpProtocol
from proxy.roads.express import Express
from proxy.server import Server, bind, serving
from proxy.upstream import Limits, Upstream
from tests.support.scripted import All, PassThrough, Script, Visit, converse, scripted, until

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEPT = b"\r\n\r\nok"


@dataclass
class Count:
    """Counts how often it is called."""

    calls: int = 0

    def __call__(self) -> None:
        self.calls += 1


@dataclass
class Running:
    """A proxy whose express road counts what it takes."""

    server: Server
    upstream: Upstream
    count: Count

    @property
    def taken(self) -> int:
        """How many requests the express road took."""
        return self.count.calls


@asynccontextmanager
async def express(script: Script, *, warm: bool = True, limits: Limits | None = None) -> AsyncIterator[Running]:
    """A proxy in front of `script`; when `warm`, with a connection that one request went through before."""
    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url, limits=limits)
        count = Count()
        road = Express(
            upstream, TOLD, plain_refusal, learned=All(), ordinary=lambda path: path != b"/apart", forwarded=count
        )
        app = PassThrough(upstream, TOLD, plain_refusal, road)
        async with serving(app, bind("127.0.0.1", 0), grace=5) as server:
            run = Running(server, upstream, count)
            if warm:
                await converse(server.port, b"GET /apart HTTP/1.1\r\nHost: a\r\n\r\n", until=KEPT)
                assert run.taken == 0
            yield run
            await upstream.close()


class Answers:
    """A legacy that answers everything with OK and keeps what it was sent."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.heads.append(request)
            await visit.say(OK)


async def test_a_read_with_an_idle_connection_at_hand_is_taken() -> None:
    async with express(Answers()) as run:
        assert (await converse(run.server.port, GET, until=KEPT)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert run.taken == 1


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", id="no read"),
        pytest.param(b"HEAD /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", id="no body to come"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", id="a body"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", id="an expectation"),
        pytest.param(b"GET /apart HTTP/1.1\r\nHost: a\r\n\r\n", id="a path that is more than a passage"),
        pytest.param(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n", id="a head that is refused"),
    ],
)
async def test_everything_else_is_left_to_the_application(request_: bytes) -> None:
    async with express(Answers()) as run:
        await converse(run.server.port, request_, until=b"\r\n\r\n")
        assert run.taken == 0


async def test_without_an_idle_connection_the_common_road_opens_one() -> None:
    async with express(Answers(), warm=False) as run:
        assert (await converse(run.server.port, GET, until=KEPT)).startswith(b"HTTP/1.1 200")
        assert run.taken == 0
        await converse(run.server.port, GET, until=KEPT)
        assert (run.taken, run.upstream.open_connections) == (1, 1)


async def test_headers_that_a_client_repeats_are_read_once_and_new_ones_anew() -> None:
    legacy = Answers()
    async with express(legacy) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
        for cookie in (b"one", b"one", b"two", b"one"):
            writer.write(b"GET /%b HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % (cookie, cookie))
            await reader.readuntil(KEPT)
        writer.close()
        await converse(run.server.port, GET, until=KEPT)
    told = b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nVia: 1.1 changeover\r\n"
    head = b"GET /%b HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n"
    with_cookies = [head % (cookie, cookie) + told + b"\r\n" for cookie in (b"one", b"one", b"two", b"one")]
    assert legacy.heads[1:] == [*with_cookies, b"GET /a HTTP/1.1\r\nHost: a\r\n" + told + b"\r\n"]
    assert run.taken == 5


async def test_an_idle_connection_holds_no_large_headers() -> None:
    legacy = Answers()
    async with express(legacy) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
        for size in (10, 10_000):
            writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nCookie: %b\r\n\r\n" % (b"x" * size))
            await reader.readuntil(KEPT)
        (connection,) = run.server._uvicorn.server_state.connections
        assert isinstance(connection, HttpProtocol)
        held = b"".join(value for headers, _ in connection.remembered.values() for _, value in headers)
        assert len(held) < 100
        writer.close()
        assert run.taken == 2


async def test_a_connection_that_ends_instead_of_answering_costs_a_second_try_and_no_more() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()  # and close, as a legacy does whose patience with an idle connection is at its end

    async with express(script) as run:
        assert (await converse(run.server.port, GET, until=KEPT)).startswith(b"HTTP/1.1 200")
        assert run.taken == 1


async def test_an_answer_that_breaks_off_in_its_head_is_not_asked_for_again() -> None:
    asked: list[bytes] = []

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        asked.append(await visit.request())
        await visit.say(b"HTTP/1.1 200 O")

    async with express(script) as run:
        assert (await converse(run.server.port, GET, until=b"\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
    assert len(asked) == 1


async def test_an_answer_that_breaks_off_in_its_body_is_cut_for_the_client_too() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with express(script) as run:
        assert (await converse(run.server.port, GET)).endswith(b"\r\n\r\nhalf")


async def test_an_answer_that_comes_in_pieces_goes_on_piece_by_piece() -> None:
    going_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
        await going_on.wait()
        await visit.say(b"two")

    async with express(script) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
        writer.write(GET)
        await reader.readuntil(b"one")
        going_on.set()
        assert await reader.readexactly(3) == b"two"
        writer.close()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none"])
async def test_a_client_that_goes_ends_the_legacys_work_for_it(said: bytes) -> None:
    ended = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()
        if said:
            await visit.say(said)
        await visit.reader.read()
        ended.set()

    async with express(script) as run:
        reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
        writer.write(GET)
        if said:
            await reader.readuntil(b"one")
        await until(lambda: run.taken == 1)
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)
        await until(lambda: run.upstream.open_connections == 0)


async def test_a_legacy_that_does_not_answer_in_time_is_told_of_as_on_the_common_road() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.reader.read()

    async with express(script, limits=Limits(response_timeout=0.2)) as run:
        answer = await converse(run.server.port, GET, until=b"in time\n")
        assert answer.startswith(b"HTTP/1.1 504 ")


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    legacy = Answers()
    async with express(legacy) as run:
        requests = [b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(20)]
        reader, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
        writer.write(b"".join(requests))
        for _ in requests:
            await reader.readuntil(KEPT)
        writer.close()
        assert run.taken == 20
    assert [head.split()[1] for head in legacy.heads[1:]] == [b"/%d" % number for number in range(20)]


async def test_a_server_that_stops_lets_a_taken_request_end() -> None:
    legacy = Slow()
    async with express(legacy) as run, asyncio.TaskGroup() as group:
        waiting = group.create_task(converse(run.server.port, GET))
        await legacy.asked.wait()
        stopping = group.create_task(run.server.stop(60))
        await until(lambda: run.server.stopping)
        legacy.going_on.set()
        answer = await waiting
        await stopping
    assert answer.endswith(KEPT)


async def test_a_server_in_a_hurry_does_not() -> None:
    legacy = Slow()
    async with express(legacy) as run, asyncio.TaskGroup() as group:
        waiting = group.create_task(converse(run.server.port, GET))
        await legacy.asked.wait()
        stopping = group.create_task(run.server.stop(60))
        await until(lambda: run.server.stopping)
        run.server.hurry()
        assert await asyncio.wait_for(waiting, 10) == b""
        await asyncio.wait_for(stopping, 10)


class Slow:
    """A legacy that answers its first request, and the others when it is told to go on."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.going_on = asyncio.Event()

    async def __call__(self, visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        while await visit.request():
            self.asked.set()
            await self.going_on.wait()
            await visit.say(OK)
