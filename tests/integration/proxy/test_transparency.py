"""What is not a mutation passes byte for byte: each side, raw, reads what the other wrote."""

from __future__ import annotations

import pytest

from proxy.forward import Forwarding
from proxy.upstream import Upstream
from tests.support.scripted import Script, Visit, converse, proxied, scripted

UNTOLD = Forwarding(tell=False)


@pytest.fixture(autouse=True, params=["common", "express"])
def road(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each promise holds on both roads: as an ASGI application, and from connection to connection."""
    monkeypatch.setattr("tests.support.scripted.EXPRESS", request.param == "express")


def answering(answer: bytes, seen: list[bytes]) -> Script:
    async def script(visit: Visit) -> None:
        while request := await visit.request():
            seen.append(request)
            await visit.say(answer)

    return script


async def through(request: bytes, answer: bytes, *, until: bytes | None = None) -> tuple[bytes, bytes]:
    """Send `request` through a proxy to a legacy that says `answer`; returns what each of the two read."""
    seen: list[bytes] = []
    async with scripted(answering(answer, seen)) as legacy, proxied(Upstream(legacy.url), forwarding=UNTOLD) as server:
        got = await converse(server.port, request, until=until)
    return seen[0], got


EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/trpc/a.b,c.d?batch=1&input=%7B%220%22%3A%22a%2Cb%22%7D",
        b"/trpc/a%2Fb/../c//d/./?",
        b"/a%7eb+c?x=[1]&y={2}&z=%2B&&=|'\"",
        b"/a?b?c",
        b"*",
    ],
)
async def test_the_target_keeps_every_byte(target: bytes) -> None:
    request = b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a.example\r\n\r\n"
    seen, _ = await through(request, EMPTY, until=b"\r\n\r\n")
    assert seen == request


async def test_request_headers_keep_order_letter_case_and_repetition() -> None:
    request = (
        b"POST /x HTTP/1.1\r\nx-LOWER-Upper: 1\r\nHost: A.Example:99\r\nCookie: a=1\r\n"
        b"content-type: application/json, application/json\r\nCOOKIE: b=2\r\nAccept: */*\r\nContent-Length: 3\r\n"
        b"traceparent: 00-ab-cd-01\r\nEmpty: \r\nLatin: \xe9\r\n\r\nabc"
    )
    seen, _ = await through(request, EMPTY, until=b"\r\n\r\n")
    assert seen == request


async def test_an_answer_keeps_reason_order_letter_case_and_repetition() -> None:
    answer = (
        b"HTTP/1.1 299 Quite Fine\r\nx-PoweRed-By: me\r\nSet-Cookie: a=1\r\ncontent-LENGTH: 3\r\nset-cookie: b=2\r\n"
        b'ETag: W/"x"\r\nLatin: \xe9\r\n\r\nabc'
    )
    _, got = await through(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer, until=b"abc")
    assert got == answer


async def test_a_chunked_answer_stays_chunked_with_its_trailers() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    )
    _, got = await through(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer, until=b"X-Sum: 5\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert got.endswith(b"de\r\n0\r\nX-Sum: 5\r\n\r\n")
