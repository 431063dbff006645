"""What the proxy lets through, Node reads as it would have read it without the proxy: same requests, same borders.

Requests are put together from right and wrong parts and sent with a second request behind them, once through the
proxy and once directly. The proxy may refuse what Node takes; it may never let through what Node reads otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.forward import Forwarding
from proxy.upstream import Upstream
from tests.support.node import ROOT, first_line, start_node, stop
from tests.support.scripted import converse, proxied

END = b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LAST = re.compile(rb"HTTP/1\.0|[Cc]onnection\s*:\s*close")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "expect", "content-length"}
PATIENCE = 0.25
"""Seconds to wait for a proxy that waits for more. A busy machine makes this test miss something, never fail."""


class Reading(NamedTuple):
    """One request as Node read it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@pytest.fixture(scope="module", name="node_port")
def _node_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    stderr = tmp_path_factory.mktemp("reads") / "stderr.log"
    process = start_node(ROOT / "tests" / "support" / "reads.mjs", stderr=stderr)
    try:
        yield int(first_line(process, stderr))
    finally:
        stop(process)


targets = st.sampled_from(
    [b"/", b"/a?b=%2F", b"//a/../b", b"/a#b", b"http://a/x", b"http://b/x", b"*", b"/\xc3\xa4", b"/a b"]
)
versions = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1"])
ends = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n"])
colons = st.sampled_from([b": "] * 12 + [b":", b" : ", b":\t", b"  :"])
lengths = st.sampled_from([b"0", b"3", b"5", b"03", b"+3", b"3, 3", b"0x3", b"3 ", b"-1", b"", b"999"])
codings = st.sampled_from(
    [
        b"chunked",
        b"Chunked",
        b"chunked, chunked",
        b"gzip, chunked",
        b"chunked, gzip",
        b"identity",
        b" chunked",
        b"\x0bchunked",
        b"x",
    ]
)
fields = st.one_of(
    st.tuples(st.sampled_from([b"Content-Length", b"content-length"]), lengths),
    st.tuples(st.sampled_from([b"Transfer-Encoding", b"transfer-ENCODING"]), codings),
    st.tuples(
        st.just(b"Connection"), st.sampled_from([b"close", b"keep-alive", b"x-a", b"content-length", b"Upgrade"])
    ),
    st.tuples(st.just(b"Upgrade"), st.sampled_from([b"h2c", b"x"])),
    st.tuples(
        st.sampled_from([b"X-A", b"x-a", b"X-B", b"Host", b"X\x00", b"X A", b""]),
        st.sampled_from([b"1", b"", b"a, b", b"\xe9", b"a\x00"]),
    ),
)
chunk_sizes = st.sampled_from([b"3", b"03", b"3;x=y", b"3 ", b"0x3", b"-3", b"4", b"2", b"3;\n"])
bodies = st.one_of(
    st.sampled_from([b"", b"abc", b"abcde", b"abc" + END]),
    st.builds(
        lambda size, end, tail: size + end + b"abc" + end + b"0" + end + tail + end,
        chunk_sizes,
        ends,
        st.sampled_from([b"", b"X-T: 1\r\n", b"Content-Length: 3\r\n", b"GET"]),
    ),
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, more often right than not."""
    method = draw(st.sampled_from([b"POST", b"POST", b"GET", b"PUT", b"DELETE", b"post", b"P OST"]))
    line = b"%b %b %b" % (method, draw(targets), draw(versions))
    headers = [(b"Host", b"a"), *draw(st.lists(fields, max_size=3))]
    head = b"".join(name + draw(colons) + value + draw(ends) for name, value in headers)
    return line + draw(ends) + head + draw(ends) + draw(bodies)


async def direct(port: int, data: bytes) -> list[Reading]:
    """Send bytes to Node and then the end; returns the requests that it says it read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    try:
        writer.write(data)
        writer.write_eof()
        while piece := await reader.read(65536):
            got += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return list(parse(bytes(got)))


async def through(port: int, data: bytes) -> list[Reading]:
    """Send bytes to the proxy, which takes a client that ends for one that has gone; returns the same."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = bytearray()
    try:
        writer.write(data)
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(65536):
                got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return list(parse(bytes(got)))


def parse(answers: bytes) -> Iterator[Reading]:
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        lower = head.lower()
        length = int(lower.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if b"x-read-by: node" in lower:
            if len(rest) < length:
                return
            read = json.loads(rest[:length])
            pairs = zip(read["headers"][::2], read["headers"][1::2], strict=True)
            yield Reading(read["method"], read["target"], end_to_end(list(pairs)), base64.b64decode(read["body"]))
        answers = rest[length:]


def end_to_end(pairs: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    named = {
        token.strip().lower() for name, value in pairs if name.lower() == "connection" for token in value.split(",")
    }
    return tuple(pair for pair in pairs if pair[0].lower() not in HOP_BY_HOP | named)


def origin_form(reading: Reading) -> Reading:
    return reading._replace(target=reading.target.removeprefix("http://a"))


@given(st.lists(requests(), min_size=15, max_size=15))
@settings(max_examples=12)
def test_the_proxy_lets_nothing_through_that_node_reads_otherwise(node_port: int, batch: list[bytes]) -> None:
    async def both() -> None:
        upstream = Upstream(f"http://127.0.0.1:{node_port}")
        async with proxied(upstream, forwarding=Forwarding(tell=False)) as server:
            # Node drops its answer when bytes follow a request that ends the connection; here they are left unread.
            wires = [request if LAST.search(request) else request + END for request in batch]
            passed = await asyncio.gather(*[through(server.port, wire) for wire in wires])
            read = await asyncio.gather(*[direct(node_port, wire) for wire in wires])
        for wire, ours, nodes in zip(wires, passed, read, strict=True):
            if LAST.search(wire) and not nodes:
                assert len(ours) <= 1, wire
                continue
            assert ours == [origin_form(reading) for reading in nodes[: len(ours)]], wire

    asyncio.run(both())


async def test_the_comparison_sees_something(node_port: int) -> None:
    """Requests that are right are read, all of them, both ways."""
    chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    expected = [
        Reading("POST", "/x", (("Host", "a"), ("X-A", "1")), b"abc"),
        Reading("GET", "/end", (("Host", "a"),), b""),
    ]
    assert await direct(node_port, chunked + END) == expected
    upstream = Upstream(f"http://127.0.0.1:{node_port}")
    async with proxied(upstream, forwarding=Forwarding(tell=False)) as server:
        got = await converse(server.port, chunked + END)
    assert list(parse(got)) == expected
