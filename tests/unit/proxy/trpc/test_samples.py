"""Exchanges captured between real tRPC clients and servers decode to what an independent decoder read.

The folder is tests/data/trpc, or the one that TRPC_SAMPLES names (`make test-wire TRPC_SAMPLES=DIR`).
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown, decode_answer
from proxy.trpc.inputs import BodyKind, Malformed, body_kind, decode_inputs
from proxy.trpc.sse import Item, SseDecoder, SseEvent, read_event
from proxy.trpc.streams import Decoded, JsonLinesDecoder, StreamDecoder, stream_decoder, stream_kind
from proxy.trpc.targets import Calls, NotCalls, Refused, parse_target
from proxy.trpc.transformers import TRANSFORMERS, UNDEFINED, Transformer
from proxy.trpc.websocket import (
    Answer,
    Correlation,
    Request,
    Unreadable,
    parse_client_frame,
    parse_server_frame,
)
from shadow import json

FOLDER = Path(os.environ.get("TRPC_SAMPLES") or Path(__file__).parents[3] / "data" / "trpc")


@dataclass(frozen=True)
class Sample:
    name: str
    raw: dict[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        return dict(self.raw["request"])

    @property
    def response(self) -> dict[str, Any]:
        return dict(self.raw.get("response") or {})

    @property
    def expect(self) -> list[dict[str, Any]] | None:
        expect = self.raw.get("expect")
        return None if expect is None else list(expect)

    @property
    def transformer(self) -> Transformer:
        described = f"{self.name} {self.raw.get('link')}"
        return TRANSFORMERS[next((name for name in ("superjson", "devalue") if name in described), "none")]

    @property
    def separator(self) -> str:
        found = re.search(r"pathSeparator (\S)\)", str(self.raw.get("link")))
        return found[1] if found else "."

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        pairs = self.request.get("headers") or {}
        return [
            (name.encode(), each.encode())
            for name, value in pairs.items()
            for each in (value if isinstance(value, list) else [value])
        ]

    def target(self) -> Calls | NotCalls | Refused:
        path, _, query = self.request["target"].encode().partition(b"?")
        return parse_target(self.request["method"], path, query, base_path="/trpc", separator=self.separator)


def body_of(message: dict[str, Any]) -> bytes:
    body = message.get("body") or ""
    return base64.b64decode(body) if message.get("body_encoding") == "base64" else str(body).encode()


SAMPLES = [Sample(path.stem, json.decode(path.read_bytes())) for path in sorted(FOLDER.glob("*.json"))]
HTTP = [each for each in SAMPLES if not each.raw.get("frames") and each.expect is not None]
SOCKETS = [each for each in SAMPLES if each.raw.get("frames")]
EVENTS = [
    each
    for each in SAMPLES
    if str((each.response.get("headers") or {}).get("content-type")).startswith("text/event-stream")
]


def named(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", [pytest.param(each, id=each.name) for each in samples])


def cuttings(sample: Sample, body: bytes) -> Iterator[list[bytes]]:
    """The ways in which a body may arrive: whole, by byte, in odd pieces, and as it did when it was captured."""
    yield [body]
    yield [body[at : at + 1] for at in range(len(body))]
    for size in (2, 3, 7, 64):
        yield [body[at : at + size] for at in range(0, len(body), size)]
    chunks = [text.encode() for _, text in sample.response.get("chunks") or []]
    if b"".join(chunks) == body:
        yield chunks


def described(outcome: CallOutcome) -> dict[str, Any]:
    match outcome:
        case Success(data=data) if data is UNDEFINED:
            return {"outcome": "result", "void": True}
        case Success(data=data):
            return {"outcome": "result", "data": data}
        case Failure(number=number):
            return {"outcome": "error", "code": number}
        case Unknown():
            return {"outcome": "missing"}


def check(outcomes: list[CallOutcome], expect: list[dict[str, Any]]) -> None:
    assert len(outcomes) == len(expect)
    for outcome, expected in zip(outcomes, expect, strict=True):
        found = described(outcome)
        wanted = {key: expected[key] for key in ("outcome", "code", "void", "data") if key in expected}
        assert json.encode({key: found.get(key) for key in wanted}) == json.encode(wanted)


def test_the_folder_holds_samples() -> None:
    assert SAMPLES
    assert len({each.name for each in SAMPLES}) == len(SAMPLES)


@named([each for each in HTTP if each not in EVENTS])
def test_every_answer_decodes_to_what_was_expected(sample: Sample) -> None:
    expect = sample.expect or []
    body, status = body_of(sample.response), int(sample.response.get("status") or 200)
    kind = stream_kind(sample.headers)
    if kind is None:
        check(list(decode_answer(len(expect), status, body, sample.transformer)), expect)
        return
    readings = [
        _read_stream(stream_decoder(kind, len(expect), sample.transformer, status=status), pieces)
        for pieces in cuttings(sample, body)
    ]
    for decoded, outcomes in readings:
        check(outcomes, expect)
        assert decoded == readings[0][0]
    for each in readings[0][0]:
        assert each.end_offset == len(body) or body[each.end_offset - 1 : each.end_offset] == b"\n"


def _read_stream(decoder: StreamDecoder, pieces: list[bytes]) -> tuple[list[Decoded], list[CallOutcome]]:
    decoded: list[Decoded] = []
    for piece in pieces:
        decoded += decoder.feed(piece)
        assert all(each.end_offset <= decoder.cleared for each in decoded)
    decoded += decoder.close()
    at_last = {each.index: each.outcome for each in decoded}
    if isinstance(decoder, JsonLinesDecoder) and decoder.streamed:
        return decoded, list(decoder.outcomes())
    return decoded, [at_last[index] for index in sorted(at_last)]


@named(HTTP)
def test_every_target_names_the_calls_or_is_refused_with_a_reason(sample: Sample) -> None:
    paths = [each["path"] for each in sample.expect or []]
    match sample.target():
        case Calls(paths=found):
            if not (sample.request["target"].partition("?")[0].endswith("/") and _all(sample, "error")):
                assert list(found) == [path.replace(sample.separator, ".") for path in _as_sent(sample, paths)]
        case Refused(reason=reason):
            assert reason
        case NotCalls():
            assert sample.request["method"] in {"HEAD", "OPTIONS"} or not sample.request["target"].startswith("/trpc/")


def _as_sent(sample: Sample, paths: list[str]) -> list[str]:
    """v10 decodes percent escapes in batches only; the proxy always does, and lets the answer tell."""
    v10_single = sample.raw["trpc_version"].startswith("10.") and len(paths) == 1
    return [unquote(path) for path in paths] if v10_single else paths


def _all(sample: Sample, outcome: str) -> bool:
    """A path with a slash at its end is found by some servers only; the proxy takes it, and lets the answer tell."""
    return all(each["outcome"] == outcome for each in sample.expect or [])


@named(HTTP)
def test_every_input_is_read(sample: Sample) -> None:
    target = sample.target()
    if not isinstance(target, Calls):
        return
    content_type = dict(sample.headers).get(b"content-type")
    if body_kind(content_type) is BodyKind.OPAQUE:
        return
    body = body_of(sample.request)
    inputs = decode_inputs(target, sample.request["method"], body, sample.transformer)

    assert len(inputs) == len(target.paths)
    if sample.raw["link"] != "raw" and _all(sample, "result"):
        assert not [each for each in inputs if isinstance(each, Malformed)]


@named(EVENTS)
def test_every_event_stream_reads_alike_however_it_is_cut(sample: Sample) -> None:
    body = body_of(sample.response)
    readings = [_read_events(pieces) for pieces in cuttings(sample, body)]

    assert readings[0]
    assert all(events == readings[0] for events in readings)
    assert len(readings[0]) == sum(b"data:" in block for block in _blocks(body))
    for event in readings[0]:
        said = read_event(event, sample.transformer)
        assert not isinstance(said, Unknown)
        assert not isinstance(said, Item) or said.id == event.id or not event.id


def _blocks(body: bytes) -> list[bytes]:
    return body.replace(b"\r\n", b"\n").rpartition(b"\n\n")[0].split(b"\n\n")


def _read_events(pieces: list[bytes]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@named(SOCKETS)
def test_every_socket_exchange_correlates(sample: Sample) -> None:
    open_calls = Correlation()
    settled: list[tuple[Request, CallOutcome | None]] = []
    for frame in sample.raw["frames"]:
        if frame["type"] not in {"text", "binary"}:
            continue
        data = frame["data"] if frame["type"] == "text" else base64.b64decode(frame["data"])
        if frame["from"] == "client":
            for message in parse_client_frame(data, sample.transformer):
                if isinstance(message, Request) and message.type != "subscription":
                    open_calls.sent(message)
                    settled.append((message, None))
        else:
            answer = parse_server_frame(data, sample.transformer)
            assert not isinstance(answer, Unreadable) or frame["type"] == "binary"
            if isinstance(answer, Answer) and (request := open_calls.answered(answer.id)):
                at = next(i for i, (each, outcome) in enumerate(settled) if each is request and outcome is None)
                settled[at] = (request, answer.outcome)
    if sample.expect is None:
        return
    outcomes = [outcome or Unknown("the connection closed") for _, outcome in settled]
    check(outcomes, sample.expect)
    for (request, _), expected in zip(settled, sample.expect, strict=True):
        assert (request.id, request.type, request.path) == (expected["id"], expected["type"], expected["path"])
