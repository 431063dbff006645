"""JSON mutations in one POST: forwarded once, as they came, and answered when what they did is durable."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from shadow.journal import Outcome
from shadow.json import Json
from tests.support.mirrored import NOTES, mirrored
from tests.support.raw_http import RawRequest, exchange, opened
from tests.support.scripted import Script, Visit, scripted

JSON = (("content-type", "application/json"),)
EDIT = RawRequest("POST", b"/trpc/note.edit", JSON, b'{"id":"n","text":"t"}')
DONE = b'{"result":{"data":{"ok":true}}}'


def answering(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> Script:
    """A legacy that answers every request so."""

    async def legacy(visit: Visit) -> None:
        lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
        while await visit.request():
            await visit.say(b"\r\n".join(lines))

    return legacy


async def test_the_answer_waits_for_the_event(tmp_path: Path) -> None:
    async with scripted(answering(DONE)) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        port.writer.gate.clear()
        async with opened(port.url, EDIT) as stream:
            await port.writer.reached.wait()
            assert (port.events(), stream.body) == ([], b"")
            port.writer.gate.set()
            assert (await stream.whole()).body == DONE
        assert [event.draft.data for event in port.events()] == [{"id": "n", "text": "t"}]


async def test_a_path_may_separate_its_parts_in_another_way(tmp_path: Path) -> None:
    contract = NOTES.replace('base_path = "/trpc"', 'base_path = "/trpc"\nseparator = "~"')
    request = RawRequest("POST", b"/trpc/note~edit", JSON, EDIT.body)
    async with scripted(answering(DONE)) as server, mirrored(server.url, tmp_path, contract=contract) as port:
        await exchange(port.url, request)
        assert [event.draft.type for event in port.events()] == ["note-edited"]


async def test_a_compressed_answer_is_read_and_passes_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(DONE)
    legacy = answering(packed, b"Content-Encoding: gzip")
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, EDIT)).body == packed
        assert [intent.outcome for intent in port.intents()] == [Outcome.APPLIED]


@pytest.mark.parametrize(
    ("body", "status", "outcome"),
    [
        (DONE, b"200 OK", Outcome.IN_DOUBT),
        (
            b'{"error":{"message":"no","code":-32600,"data":{"code":"BAD_REQUEST","httpStatus":400}}}',
            b"400 No",
            Outcome.REJECTED,
        ),
    ],
)
async def test_an_input_that_cannot_be_read_goes_on_and_its_outcome_counts(
    tmp_path: Path, body: bytes, status: bytes, outcome: Outcome
) -> None:
    legacy = answering(body, status=status)
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        answer = await exchange(port.url, RawRequest("POST", b"/trpc/note.edit", JSON, b'{"a":'))
        assert answer.body == body
        given: list[tuple[Json, Outcome]] = [(intent.input, intent.outcome) for intent in port.intents()]
        assert given == [(None, outcome)]


async def test_an_answer_that_stops_in_its_middle_is_given_up_in_the_end(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n" + DONE[:10])
        await visit.reader.read()

    async with scripted(legacy) as server, mirrored(server.url, tmp_path, patience=0.1) as port:
        assert (await exchange(port.url, EDIT)).status == 504
        assert [intent.outcome for intent in port.intents()] == [Outcome.IN_DOUBT]


async def test_a_call_whose_key_no_log_can_hold_is_refused_in_trpcs_shape(tmp_path: Path) -> None:
    forwarded: list[object] = []

    async def legacy(visit: Visit) -> None:
        while request := await visit.request():
            forwarded.append(request)

    unfit = RawRequest("POST", b"/trpc/note.edit", JSON, b'{"id":"a\\u0000b","text":"t"}')
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port, asyncio.timeout(30):
        answer = await exchange(port.url, unfit)
        assert answer.status == 400
        assert b'"code":"BAD_REQUEST"' in answer.body
        assert forwarded == port.intents() == []
