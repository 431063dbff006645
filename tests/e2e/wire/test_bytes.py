"""Requests that no stock client sends are answered through the proxy as the server answers them, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from proxy.trpc.transformers import TRANSFORMERS, Transformer
from shadow import json
from shadow.json import Json
from tests.support.raw_http import HeaderPairs, RawRequest
from tests.support.ways import Ways, base_path, same_bytes, same_bytes_or_refused
from tests.support.wire_servers import ONE_OF_EACH, WireServer

JSON = (("content-type", "application/json"),)
TWICE = (("content-type", "application/json, application/json"),)
STREAM = (*JSON, ("trpc-accept", "application/jsonl"), ("trpc-batch-mode", "stream"))


def posting(target: bytes, value: Json, headers: HeaderPairs = JSON) -> Callable[[Transformer], RawRequest]:
    """A call with that input, in the words of a transformer."""
    return lambda transformer: RawRequest("POST", target, headers, json.encode(transformer.encode(value)))


def batching(
    target: bytes, inputs: Mapping[str, Json], headers: HeaderPairs = JSON
) -> Callable[[Transformer], RawRequest]:
    """A batch; calls without an input have none on the wire either."""
    return lambda transformer: RawRequest(
        "POST",
        target + b"?batch=1",
        headers,
        json.encode({index: transformer.encode(value) for index, value in inputs.items()}),
    )


def chunked(target: bytes, value: Json) -> Callable[[Transformer], RawRequest]:
    """A call whose body comes in pieces of three bytes."""

    def request(transformer: Transformer) -> RawRequest:
        body = json.encode(transformer.encode(value))
        pieces = tuple(body[start : start + 3] for start in range(0, len(body), 3))
        return RawRequest("POST", target, JSON, chunks=pieces)

    return request


GETTING = {
    "query": RawRequest("GET", b"/hello"),
    "query with escapes": RawRequest("GET", b"/echo?input=%22a%2Bb+c%20'()*~!%22&x=%41%2c"),
    "empty input": RawRequest("GET", b"/echo?input="),
    "unknown procedure": RawRequest("GET", b"/no.such?input=%7B"),
    "batch": RawRequest("GET", b"/hello,echo,plain?batch=1&input=%7B%221%22%3A%7B%22id%22%3A%222%22%7D%7D"),
    "batch without input": RawRequest("GET", b"/hello,nothing?batch=1"),
    "batch that says true": RawRequest("GET", b"/hello,echo?batch=true&input=%7B%7D"),
    "large query": RawRequest("GET", b"/echo?input=%22" + b"x" * 12_000 + b"%22"),
    "mutation": RawRequest("GET", b"/voidMut"),
    "HEAD": RawRequest("HEAD", b"/hello"),
    "OPTIONS": RawRequest("OPTIONS", b"/voidMut", (("origin", "http://example.test"),)),
    "PUT": RawRequest("PUT", b"/voidMut", JSON, b"{}"),
}

POSTING: dict[str, Callable[[Transformer], RawRequest]] = {
    "query": posting(b"/hello", {}),
    "unknown procedure": posting(b"/no.such", {}),
    "mutation": posting(b"/echoMut", {"b": 1, "a": "é 😀", "c": [1.5, None, {}]}),
    "mutation, chunked": chunked(b"/echoMut", {"a": [1, 2]}),
    "mutation, a megabyte": posting(b"/echoMut", "m" * 900_000),
    "mutation, repeated headers": posting(
        b"/cookies", None, (*JSON, ("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"))
    ),
    "mutation, odd letter case of the content-type": posting(
        b"/echoMut", 1, (("Content-TYPE", "application/json; charset=utf-8"),)
    ),
    "input in the query": posting(b"/echoMut?input=%221%22", 2),
    "failing": posting(b"/failMut", {"code": "CONFLICT"}),
    "batch": batching(b"/voidMut,echoMut,failMut,nope", {"1": 1, "2": {}}),
    "batch of one": batching(b"/echoMut", {"0": "alone"}),
    "batch with an input too many": batching(b"/echoMut,voidMut", {"0": 1, "7": 2}),
    "batch of one procedure three times": batching(b"/echoMut,echoMut,echoMut", {"0": 1, "1": 2, "2": 3}),
    "batch of mixed types": batching(b"/voidMut,hello", {}),
    "batch with cookies": batching(b"/cookies,voidMut", {}),
    "streamed batch of one": batching(b"/echoMut", {"0": {"a": 1}}, STREAM),
    "streamed single call": posting(b"/echoMut", {"a": 1}, STREAM),
}

ODD: dict[str, RawRequest] = {
    "empty body": RawRequest("POST", b"/voidMut", JSON, b""),
    "no body": RawRequest("POST", b"/voidMut", JSON),
    "malformed body": RawRequest("POST", b"/echoMut", JSON, b'{"a":'),
    "malformed body that nobody reads": RawRequest("POST", b"/voidMut,open?batch=1", JSON, b'{"a":'),
    "not JSON": RawRequest("POST", b"/echoMut", (("content-type", "text/plain"),), b'"x"'),
    "no content-type": RawRequest("POST", b"/echoMut", (), b'"x"'),
    "content-type twice in one": RawRequest("POST", b"/echoMut", TWICE, b'"x"'),
    "batch whose inputs are an array": RawRequest("POST", b"/echoMut,voidMut?batch=1", JSON, b"[1,2]"),
    "batch without a body": RawRequest("POST", b"/voidMut,echoMut?batch=1", JSON, b""),
    "batch that says true": RawRequest("POST", b"/voidMut,echoMut?batch=true", JSON, b"{}"),
    "escaped dot": RawRequest("POST", b"/post%2Ecomment%2Eadd", JSON, b"null"),
    "escaped comma": RawRequest("POST", b"/voidMut%2CnullMut?batch=1", JSON, b"{}"),
    "bad escape": RawRequest("POST", b"/voidMut%zz", JSON, b"null"),
    "trailing slash": RawRequest("POST", b"/voidMut/", JSON, b"null"),
    "two slashes": RawRequest("POST", b"//voidMut", JSON, b"null"),
    "a folder too many": RawRequest("POST", b"/a/voidMut", JSON, b"null"),
    "a dot segment": RawRequest("POST", b"/./voidMut", JSON, b"null"),
    "empty path": RawRequest("POST", b"/", JSON, b"null"),
}  # fmt: skip
"""What is not understood is not mirrored: the proxy may refuse these, but never answer them differently."""

ELSEWHERE = {
    "root": RawRequest("GET", b"/"),
    "query": RawRequest("GET", b"/elsewhere?x=%7B"),
    "escapes": RawRequest("GET", b"/static/a%2Fb.js"),
    "post": RawRequest("POST", b"/elsewhere", JSON, b'{"a":'),
}


def at(ways: Ways, request: RawRequest) -> RawRequest:
    return replace(request, target=base_path(ways.direct) + request.target)


@pytest.mark.parametrize("server", ONE_OF_EACH, ids=str, indirect=True)
@pytest.mark.parametrize("name", GETTING)
async def test_what_cannot_be_a_mutation(ways: Ways, name: str) -> None:
    await same_bytes(ways, at(ways, GETTING[name]))


@pytest.mark.parametrize("name", POSTING)
async def test_what_may_be_a_mutation(ways: Ways, server: WireServer, name: str) -> None:
    await same_bytes(ways, at(ways, POSTING[name](TRANSFORMERS[server.wire.transformer])))


@pytest.mark.parametrize("server", ONE_OF_EACH, ids=str, indirect=True)
@pytest.mark.parametrize("name", ODD)
async def test_what_is_not_understood_is_answered_the_same_or_refused(
    ways: Ways, server: WireServer, name: str
) -> None:
    await same_bytes_or_refused(ways, at(ways, ODD[name]), TRANSFORMERS[server.wire.transformer])


@pytest.mark.parametrize("server", ONE_OF_EACH, ids=str, indirect=True)
@pytest.mark.parametrize("name", ELSEWHERE)
async def test_what_is_not_the_api(ways: Ways, name: str) -> None:
    await same_bytes(ways, ELSEWHERE[name])
