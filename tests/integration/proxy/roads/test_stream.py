"""Streamed batches pass line by line, each line once its call's event is durable, and not a byte is changed."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from shadow.events import EntityKey
from shadow.journal import Outcome
from tests.support.mirrored import Mirrored, mirrored
from tests.support.raw_http import RawRequest, exchange, opened
from tests.support.scripted import Visit, scripted

V11 = (("content-type", "application/json"), ("trpc-accept", "application/jsonl"))
V10 = (("content-type", "application/json"), ("trpc-batch-mode", "stream"))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nX-Odd: 1\r\n\r\n"
BODY = b'{"0":{"id":"a","text":"A"},"1":{"id":"b","text":"B"}}'
LINES = (
    b'{"0":[[0],[null,0,0]],"1":[[0],[null,0,1]]}\n',
    b'[1,0,[[{"result":0}],["result",0,2]]]\n',
    b'[2,0,[[{"data":0}],["data",0,3]]]\n',
    b'[3,0,[[{"ok":1}]]]\n',
    b'[0,0,[[{"error":{"message":"no","code":-32009,"data":{"code":"CONFLICT","httpStatus":409}}}]]]\n',
)


def batch(headers: tuple[tuple[str, str], ...] = V11, body: bytes = BODY) -> RawRequest:
    return RawRequest("POST", b"/trpc/note.edit,note.edit?batch=1", headers, body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def outcomes(port: Mirrored) -> list[tuple[int, Outcome | None]]:
    return sorted((intent.index, intent.outcome) for intent in port.intents())


async def test_a_line_waits_for_its_own_event_and_those_before_it_do_not(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(b"".join(LINES[:4])))
        await visit.say(chunk(LINES[4]) + chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        port.writer.gate.clear()
        async with opened(port.url, batch()) as stream:
            await stream.until(LINES[2])
            await port.writer.reached.wait()
            assert port.events() == []
            assert LINES[3] not in stream.body
            port.writer.gate.set()
            await stream.until(LINES[3])
            answer = await stream.whole()
        assert answer.body == b"".join(LINES)
        assert dict(answer.headers)["x-odd"] == "1"
        assert outcomes(port) == [(0, Outcome.REJECTED), (1, Outcome.APPLIED)]
        assert [event.draft.channel for event in port.events()] == ["note:b"]


@pytest.mark.parametrize("cut", [len(b"".join(LINES[:4])), len(b"".join(LINES[:4])) + 9, 20, 0])
async def test_a_stream_that_breaks_off_leaves_its_missing_calls_in_doubt_and_the_client_with_all_that_came(
    tmp_path: Path, cut: int
) -> None:
    sent = b"".join(LINES)[:cut]

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + (chunk(sent) if sent else b""))
        visit.writer.close()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        async with opened(port.url, batch()) as stream:
            with pytest.raises(EOFError):
                await stream.whole()
            assert stream.body == sent
        applied = cut >= len(b"".join(LINES[:4]))
        assert outcomes(port) == [(0, Outcome.IN_DOUBT), (1, Outcome.APPLIED if applied else Outcome.IN_DOUBT)]


async def test_a_stream_that_ends_too_early_leaves_its_missing_calls_in_doubt(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(b"".join(LINES[:4])) + chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, batch())).body == b"".join(LINES[:4])
        assert outcomes(port) == [(0, Outcome.IN_DOUBT), (1, Outcome.APPLIED)]


MEMBERS = (b'{"1":{"result":{"data":1}}\n', b',"0":{"result":{}}\n', b"}\n")


async def test_an_old_stream_is_read_member_by_member(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        for member in MEMBERS:
            await visit.say((HEAD if member is MEMBERS[0] else b"") + chunk(member))
        await visit.say(chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, batch(V10))).body == b"".join(MEMBERS)
        assert outcomes(port) == [(0, Outcome.APPLIED), (1, Outcome.APPLIED)]


async def test_a_compressed_stream_is_read_and_passes_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(LINES))

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD.replace(b"X-Odd: 1", b"Content-Encoding: gzip"))
        for start in range(0, len(packed), 50):
            await visit.say(chunk(packed[start : start + 50]))
        await visit.say(chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, batch())).body == packed
        assert outcomes(port) == [(0, Outcome.REJECTED), (1, Outcome.APPLIED)]


@pytest.mark.parametrize("encoding", [b"br", b"gzip"])
async def test_what_cannot_be_read_passes_once_its_calls_are_in_doubt(tmp_path: Path, encoding: bytes) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD.replace(b"X-Odd: 1", b"Content-Encoding: " + encoding) + chunk(b"\0\1\2") + chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, batch())).body == b"\0\1\2"
        assert outcomes(port) == [(0, Outcome.IN_DOUBT), (1, Outcome.IN_DOUBT)]


async def test_a_plain_answer_to_a_request_for_a_stream_is_read_as_one(tmp_path: Path) -> None:
    plain = b'[{"result":{}},{"error":{"message":"no","code":-32009,"data":{"code":"CONFLICT","httpStatus":409}}}]'

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 207 Some\r\nContent-Length: %d\r\n\r\n" % len(plain) + plain[:20])
        await visit.say(plain[20:])
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        answer = await exchange(port.url, batch())
        assert (answer.status, answer.reason, answer.body) == (207, "Some", plain)
        assert outcomes(port) == [(0, Outcome.APPLIED), (1, Outcome.REJECTED)]


async def test_a_client_that_does_not_read_holds_up_no_outcome(tmp_path: Path) -> None:
    """Its lines wait in memory; the event is there and the entity is free."""
    large = b'[5,1,[["' + b"x" * (4 << 20) + b'"]]]\n'

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(LINES[0]) + chunk(large) + chunk(large) + chunk(b"".join(LINES[1:])) + chunk(b""))
        await visit.request()

    async with (
        scripted(legacy) as server,
        mirrored(server.url, tmp_path) as port,
        asyncio.timeout(30),
        opened(port.url, batch()) as stream,
    ):
        committed = asyncio.Event()
        port.log.on_commit(lambda events: committed.set())
        await committed.wait()
        async with port.proxy.mirror.locks.hold([EntityKey("note", "a"), EntityKey("note", "b")]):
            answer = await stream.whole()
    assert len(answer.body) == len(b"".join(LINES)) + 2 * len(large)


async def test_a_legacy_that_is_not_there_leaves_nothing_in_doubt(tmp_path: Path) -> None:
    async with mirrored("http://127.0.0.1:1", tmp_path) as port:
        answer = await exchange(port.url, batch())
        assert answer.status == 502
        assert outcomes(port) == [(0, Outcome.NOT_APPLIED), (1, Outcome.NOT_APPLIED)]


async def test_a_stream_that_only_pings_is_given_up_in_the_end(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(b"".join(LINES[:4])))
        while True:
            await visit.say(chunk(b" "))
            await asyncio.sleep(0.01)

    async with scripted(legacy) as server, mirrored(server.url, tmp_path, patience=0.2) as port:
        async with opened(port.url, batch()) as stream:
            with pytest.raises(EOFError):
                await stream.whole()
            assert stream.body.strip() == b"".join(LINES[:4]).strip()
        assert outcomes(port) == [(0, Outcome.IN_DOUBT), (1, Outcome.APPLIED)]
