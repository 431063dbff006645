"""Forms and bytes stream through; intents and events tell of their media type and size."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shadow.journal import Outcome
from tests.support.mirrored import mirrored
from tests.support.raw_http import RawRequest, exchange
from tests.support.scripted import Visit, scripted

FORM = (("content-type", "Multipart/Form-Data; boundary=x"),)
OCTETS = (("content-type", "application/octet-stream"),)
MADE = b'HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{"result":{"data":{"id":"n1"}}}'


async def test_bytes_of_a_declared_size_are_told_by_it_from_the_intent_on(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def legacy(visit: Visit) -> None:
        seen.append(await visit.request())
        await visit.say(MADE)
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        answer = await exchange(port.url, RawRequest("POST", b"/trpc/note.upload", OCTETS, b"\0\1" * 500))
        assert answer.body == b'{"result":{"data":{"id":"n1"}}}'
        assert seen[0].endswith(b"\0\1" * 500)
        (intent,) = port.intents()
        assert (intent.input, intent.outcome) == (
            {"contentType": "application/octet-stream", "size": 1000},
            Outcome.APPLIED,
        )
        (event,) = port.events()
        assert event.draft.data == {"id": "n1", "type": "application/octet-stream", "size": 1000}


async def test_a_form_of_unknown_size_is_told_by_what_has_passed(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(MADE)
        await visit.request()

    request = RawRequest("POST", b"/trpc/note.upload", FORM, chunks=(b"--x", b"." * 4000, b"--x--"))
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await exchange(port.url, request)
        assert port.intents()[0].input == {"contentType": "multipart/form-data", "size": None}
        assert port.events()[0].draft.data == {"id": "n1", "type": "multipart/form-data", "size": 4008}


async def test_a_body_that_is_large_never_waits_in_memory_as_a_whole(tmp_path: Path) -> None:
    """The legacy gets the first piece before the client has sent the last, beyond what a JSON body may have."""
    arrived = asyncio.Event()

    async def legacy(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.reader.readexactly(1 << 20)
        arrived.set()
        await visit.reader.readexactly(1 << 20)
        await visit.say(MADE)
        await visit.request()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
        head = b"POST /trpc/note.upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % (2 << 20) + b"a" * (1 << 20))
        await arrived.wait()
        writer.write(b"b" * (1 << 20))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()
        assert port.events()[0].draft.data == {"id": "n1", "type": "application/octet-stream", "size": 2 << 20}


async def test_a_client_that_leaves_in_the_middle_leaves_a_doubt(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def legacy(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.reader.readexactly(3)
        begun.set()
        await visit.reader.read()
        ended.set()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        _, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
        head = b"POST /trpc/note.upload HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
        writer.write(head + b"Content-Length: 10\r\n\r\nabc")
        await begun.wait()
        writer.close()
        await ended.wait()
        async with port.proxy.fence.closed("notes", timeout=20):
            assert [intent.outcome for intent in port.intents()] == [Outcome.IN_DOUBT]
