"""What is sent without the client is what the client would have sent, and what comes back is read as it would be."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from reconcile.errors import LegacyUnreachable, QueryFailed
from reconcile.legacy import open_legacy
from reconcile.pace import Limits
from reconcile.road import ClientRoad, Received, Road, StraightRoad, trust

BODY = b'{"result":{"data":1}}'


def answer(body: bytes = BODY, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(slots=True)
class Server:
    """Notes every head and answers as told; None closes the connection."""

    heads: list[bytes] = field(default_factory=list)
    answers: Callable[[int], bytes | None] = lambda _: answer()
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    serving: list[asyncio.Task[None]] = field(default_factory=list)
    most: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.append(task)
        self.writers.add(writer)
        self.most = max(self.most, len(self.writers))
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                found = self.answers(len(self.heads))
                if found is None:
                    break
                writer.write(found)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    def lines(self, number: int) -> set[bytes]:
        return set(self.heads[number].split(b"\r\n"))


@asynccontextmanager
async def served(answers: Callable[[int], bytes | None] = lambda _: answer()) -> AsyncIterator[Server]:
    server = Server(answers=answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in server.writers:
            writer.close()
        await asyncio.gather(*server.serving)


@asynccontextmanager
async def roads(
    url: str, headers: Mapping[str, str] | None = None, timeout: float = 5.0
) -> AsyncIterator[tuple[Road, Road]]:
    limits = httpx.Limits(max_connections=2)
    async with (
        httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits, trust_env=False) as client,
        StraightRoad(client, url, limits=limits, ssl_context=trust(url)) as straight,
    ):
        yield straight, ClientRoad(client, url)


@pytest.mark.parametrize("userinfo", ["", "ann:s%40cret@"])
@pytest.mark.parametrize("path", ["", "/trpc", "/api/a b/ü"])
async def test_both_roads_send_the_same(userinfo: str, path: str) -> None:
    async with served() as server:
        url = f"http://{userinfo}127.0.0.1:{server.port}{path}"
        queries = [("note.list", "input=%7B%22a%22%3A'!()*~%7D"), ("note.get", ""), ("", ""), ("ü", "input=1")]
        async with roads(url, {"authorization": "Bearer x", "x-own": "y"}) as (straight, other):
            for query in queries:
                assert await straight.get(*query) == await other.get(*query) == Received(200, BODY)
    for number in range(0, len(server.heads), 2):
        assert server.lines(number) == server.lines(number + 1)


@pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "429 Too Many", "503 Away"])
async def test_both_roads_tell_the_same_of_an_answer(status: str) -> None:
    headers = {"Retry_After": "7", "Location": "http://127.0.0.1:1/", "Content_Encoding": "gzip"}
    async with (
        served(lambda _: answer(gzip.compress(BODY), status, **headers)) as server,
        roads(f"http://127.0.0.1:{server.port}") as (straight, other),
    ):
        found = await straight.get("a", "")
        assert found == await other.get("a", "") == Received(int(status[:3]), BODY, "7")


@pytest.mark.parametrize("broken", [None, b"nonsense\r\n\r\n", answer(b"no gzip", Content_Encoding="gzip")])
async def test_an_answer_that_breaks_off_or_cannot_be_read_is_none(broken: bytes | None) -> None:
    async with (
        served(lambda _: broken) as server,
        roads(f"http://127.0.0.1:{server.port}") as (straight, other),
    ):
        assert await straight.get("a", "") is None
        assert await other.get("a", "") is None


async def test_nobody_there_and_nobody_answering_are_none() -> None:
    async with served(lambda _: b"") as server:
        async with roads(f"http://127.0.0.1:{server.port}", timeout=0.05) as (straight, _):
            assert await straight.get("a", "") is None
        port = server.port
    async with roads(f"http://127.0.0.1:{port}") as (straight, _):
        assert await straight.get("a", "") is None


async def test_cookies_that_the_legacy_sets_are_sent_from_then_on() -> None:
    async with (
        served(lambda number: answer(Set_Cookie="way=left; Path=/") if number == 1 else answer()) as server,
        roads(f"http://127.0.0.1:{server.port}") as (straight, _),
    ):
        for _ in range(3):
            assert await straight.get("a", "") == Received(200, BODY)
    assert b"Cookie: way=left" not in server.lines(0)
    assert all(b"Cookie: way=left" in server.lines(number) for number in (1, 2))


async def test_a_whole_legacy_is_read_over_few_connections_and_a_busy_one_is_asked_again() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    def answers(number: int) -> bytes:
        return answer(b"", "429 Slowly", Retry_After="0") if number == 2 else answer()

    async with served(answers) as server:
        url = f"http://127.0.0.1:{server.port}/trpc"
        async with open_legacy(url, limits=Limits(concurrency=3), sleep=sleep) as legacy:
            await legacy.reach()
            asked = (legacy.query("note.get", {"id": number}) for number in range(20))
            assert await asyncio.gather(*asked) == [1] * 20
            assert legacy.requests == len(server.heads) == 22
    assert server.most <= 3
    assert slept


async def test_a_legacy_that_fails_is_told_from_one_that_is_not_there() -> None:
    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    async with served(lambda _: answer(b"", "500 Oh")) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with open_legacy(url, sleep=sleep) as legacy:
            with pytest.raises(QueryFailed, match="HTTP 500"):
                await legacy.query("note.get", None, attempts=1)
    async with open_legacy(url, sleep=sleep) as legacy:
        with pytest.raises(LegacyUnreachable, match="is it running"):
            await legacy.reach()


def test_over_plain_http_nobody_is_trusted_and_over_tls_whom_the_world_trusts() -> None:
    plain, tls = trust("http://127.0.0.1:1/trpc"), trust("https://api.example.com/trpc")
    assert plain.cert_store_stats()["x509_ca"] == 0
    assert tls.cert_store_stats()["x509_ca"] > 0
    assert {plain.verify_mode, tls.verify_mode} == {ssl.CERT_REQUIRED}
    assert plain.check_hostname
    assert tls.check_hostname
