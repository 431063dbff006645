"""A tapped subscription passes byte for byte; what its items tell of is in the log before they are told."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from shadow.tasks import Tasks
from tests.support.mirrored import mirrored
from tests.support.raw_http import RawRequest, exchange, opened
from tests.support.scripted import Visit, scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
DELTA = b'data: {"type":"delta","id":"n","text":"a"}\n\n\n'
MADE = (b'data: {"type":"made","id":"n","text":"b"}', b"\nid: 7", b"\n\n\n")
RETURN = b"event: return\ndata: \n\n\n"
WHOLE = DELTA + b"".join(MADE) + RETURN
FOLLOW = RawRequest("GET", b"/trpc/note.follow?input=%7B%22id%22%3A%22n%22%7D", (("accept", "text/event-stream"),))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_what_tells_of_a_write_waits_for_its_event_and_the_rest_passes_at_once(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD)
        for piece in (DELTA, *MADE, RETURN):
            await visit.say(chunk(piece))
        await visit.say(chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        watching = Tasks().spawn(port.tail.follow(["note:*"], 0).next(), name="watching")
        await asyncio.sleep(0)
        port.writer.gate.clear()
        async with opened(port.url, FOLLOW) as stream:
            await stream.until(DELTA)
            assert [entry.draft.type for entry in await watching] == ["note-delta"]
            await port.writer.reached.wait()
            assert MADE[-1] not in stream.body.removeprefix(DELTA)
            port.writer.gate.set()
            assert (await stream.whole()).body == WHOLE
        (event,) = port.events()
        assert (event.draft.type, event.draft.cause) == ("note-made", "tap:note.follow")


async def test_a_compressed_stream_is_read_and_passes_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(WHOLE)

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD.replace(b"\r\nTransfer", b"\r\nContent-Encoding: gzip\r\nTransfer"))
        for start in range(0, len(packed), 20):
            await visit.say(chunk(packed[start : start + 20]))
        await visit.say(chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, FOLLOW)).body == packed
        assert len(port.events()) == 1


async def test_when_the_client_leaves_the_legacy_is_told_and_what_had_come_is_recorded(tmp_path: Path) -> None:
    told = asyncio.Event()

    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(DELTA) + chunk(b"".join(MADE)))
        await visit.reader.read()
        told.set()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        committed = asyncio.Event()
        port.log.on_commit(lambda events: committed.set())
        port.writer.gate.clear()
        async with opened(port.url, FOLLOW):
            await port.writer.reached.wait()
        await told.wait()
        port.writer.gate.set()
        await committed.wait()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\n{}", None])
async def test_an_answer_that_is_no_stream_passes(tmp_path: Path, answer: bytes | None) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer or HEAD.replace(b"\r\nTransfer", b"\r\nContent-Encoding: br\r\nTransfer") + chunk(b""))
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, FOLLOW)).body == (b"{}" if answer else b"")
        assert port.events() == []


async def test_a_stream_that_breaks_off_breaks_off_for_the_client(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(HEAD + chunk(DELTA))

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, opened(port.url, FOLLOW) as stream:
        with pytest.raises(EOFError):
            await stream.whole()
        assert stream.body == DELTA
