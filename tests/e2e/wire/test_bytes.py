"""Requests that no stock client sends are answered through the proxy as the server answers them, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.raw_http import RawRequest
from tests.support.ways import Ways, base_path, same_bytes
from tests.support.wire_servers import WireServer

JSON = (("content-type", "application/json"),)
STREAM = (*JSON, ("trpc-accept", "application/jsonl"), ("trpc-batch-mode", "stream"))

PLAIN_REQUESTS = {
    "query": RawRequest("GET", b"/hello"),
    "query with escapes": RawRequest("GET", b"/echo?input=%22a%2Bb+c%20'()*~!%22&x=%41%2c"),
    "empty input": RawRequest("GET", b"/echo?input="),
    "unknown procedure": RawRequest("GET", b"/no.such?input=%7B"),
    "batch": RawRequest("GET", b"/hello,echo,plain?batch=1&input=%7B%221%22%3A%7B%22id%22%3A%222%22%7D%7D"),
    "batch without input": RawRequest("GET", b"/hello,nothing?batch=1"),
    "batch that says true": RawRequest("GET", b"/hello,echo?batch=true&input=%7B%7D"),
    "large query": RawRequest("GET", b"/echo?input=%22" + b"x" * 12_000 + b"%22"),
    "HEAD": RawRequest("HEAD", b"/hello"),
    "OPTIONS": RawRequest("OPTIONS", b"/voidMut", (("origin", "http://example.test"),)),
    "mutation by GET": RawRequest("GET", b"/voidMut"),
    "query by POST": RawRequest("POST", b"/hello", JSON, b"{}"),
    "PUT": RawRequest("PUT", b"/voidMut", JSON, b"{}"),
    "mutation": RawRequest("POST", b"/echoMut", JSON, b'{ "b" : 1,\n "a": "\\u00e9" }'),
    "mutation, chunked": RawRequest("POST", b"/echoMut", JSON, chunks=(b'{"a"', b":", b"[1,2", b"]}")),
    "mutation, empty body": RawRequest("POST", b"/voidMut", JSON, b""),
    "mutation, no body": RawRequest("POST", b"/voidMut", JSON),
    "mutation, malformed body": RawRequest("POST", b"/echoMut", JSON, b'{"a":'),
    "mutation that reads no input, malformed body": RawRequest("POST", b"/open,voidMut?batch=1", JSON, b'{"a":'),
    "mutation, not JSON": RawRequest("POST", b"/echoMut", (("content-type", "text/plain"),), b'"x"'),
    "mutation, no content-type": RawRequest("POST", b"/echoMut", (), b'"x"'),
    "mutation, content-type twice in one": RawRequest(
        "POST", b"/echoMut", (("content-type", "application/json, application/json"),), b'"x"'
    ),
    "mutation, a megabyte": RawRequest("POST", b"/echoMut", JSON, b'"' + b"m" * 900_000 + b'"'),
    "mutation, repeated headers": RawRequest(
        "POST", b"/cookies", (*JSON, ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")), b"null"
    ),
    "mutation batch": RawRequest("POST", b"/voidMut,echoMut,failMut,nope?batch=1", JSON, b'{"1":1,"2":{}}'),
    "mutation batch with an array": RawRequest("POST", b"/echoMut,voidMut?batch=1", JSON, b"[1,2]"),
    "mutation batch of mixed types": RawRequest("POST", b"/voidMut,hello?batch=1", JSON, b"{}"),
    "mutation batch with cookies": RawRequest("POST", b"/cookies,voidMut?batch=1", JSON, b"{}"),
    "streamed batch of one": RawRequest("POST", b"/echoMut?batch=1", STREAM, b'{"0":{"a":1}}'),
    "streamed single call": RawRequest("POST", b"/echoMut", STREAM, b'{"a":1}'),
}


@pytest.mark.parametrize("name", PLAIN_REQUESTS)
async def test_a_raw_request_is_answered_the_same(ways: Ways, server: WireServer, name: str) -> None:
    request = PLAIN_REQUESTS[name]
    answer = await same_bytes(ways, replace(request, target=base_path(ways.direct) + request.target))
    assert answer.status in {200, 204, 207, 400, 404, 405, 415, 500}, answer


@pytest.mark.parametrize("target", [b"/", b"/elsewhere?x=%7B", b"/health", b"/static/a%2Fb.js"])
async def test_what_is_not_the_api_is_answered_the_same(ways: Ways, target: bytes) -> None:
    await same_bytes(ways, RawRequest("GET", target))
