"""A plain mutation needs no task; at every step a task can take it over, and every promise holds all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.exchange import Exchange
from shadow.errors import LogUnavailable, Trouble
from shadow.journal import Outcome
from tests.support.mirrored import Mirrored, mirrored
from tests.support.raw_http import RawRequest, exchange
from tests.support.scripted import Visit, converse, scripted, until

JSON = (("content-type", "application/json"),)
DONE = b'{"result":{"data":{"ok":true}}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(DONE)


def edit(key: str, text: str = "t", *headers: tuple[str, str]) -> RawRequest:
    """A rename of one note."""
    body = f'{{"id":"{key}","text":"{text}"}}'.encode()
    return RawRequest("POST", b"/trpc/note.edit", (*JSON, *headers), body)


def wire(request: RawRequest) -> bytes:
    """The same as bytes, for a client of one's own."""
    body = request.body or b""
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (request.target, len(body), body)


@pytest.fixture(name="started")
def _started(monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """The exchanges that a task works for."""
    found: list[Exchange] = []
    start = Exchange.start

    def noting(self: Exchange, app: Callable[..., Any] | None = None) -> None:
        found.append(self)
        start(self, app)

    monkeypatch.setattr(Exchange, "start", noting)
    return found


class Legacy:
    """A legacy that does everything it is asked; `said` is how it answers what comes after the first request."""

    def __init__(self, said: Callable[[Visit], Any] | None = None) -> None:
        self.asked: list[bytes] = []
        self._said = said

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.asked.append(request)
            if self._said is None or len(self.asked) == 1:
                await visit.say(OK + DONE)
            else:
                await self._said(visit)


async def warm(port: Mirrored) -> None:
    """Have a connection to the legacy that is idle, as there always is one under load."""
    await exchange(port.url, edit("warm"))
    port.writer.reached.clear()


def outcomes(port: Mirrored) -> list[Outcome]:
    """What became of each call but the first."""
    return [intent.outcome for intent in port.intents()][1:]


def texts(port: Mirrored) -> list[Any]:
    """The events' data but the first's."""
    return [event.draft.data for event in port.events()][1:]


async def settled(port: Mirrored) -> None:
    """Wait until nothing is inside the fence and no lock is held."""
    await until(lambda: not port.proxy.fence.inside("notes") and not len(port.proxy.mirror.locks))


async def test_a_plain_mutation_is_mirrored_without_a_task(tmp_path: Path, started: list[Exchange]) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        answer = await exchange(port.url, edit("n"))
        assert (answer.status, answer.body, started) == (200, DONE, [])
        assert (outcomes(port), texts(port)) == ([Outcome.APPLIED], [{"id": "n", "text": "t"}])
        await settled(port)


async def test_a_batch_whose_calls_are_about_different_entities_is_plain_too(
    tmp_path: Path, started: list[Exchange]
) -> None:
    async def said(visit: Visit) -> None:
        body = b"[" + DONE + b"," + DONE + b"]"
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    body = b'{"0":{"id":"a","text":"1"},"1":{"id":"b","text":"2"}}'
    async with scripted(Legacy(said)) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        await exchange(port.url, RawRequest("POST", b"/trpc/note.edit,note.edit?batch=1", JSON, body))
        assert (started, outcomes(port)) == ([], [Outcome.APPLIED] * 2)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(edit("n", "t", ("idempotency-key", "k")), id="a key for retries"),
        pytest.param(RawRequest("POST", b"/trpc/note.unknown", JSON, b"{}"), id="a call without a rule"),
        pytest.param(RawRequest("POST", b"/trpc/note.edit", JSON, b""), id="no body"),
        pytest.param(edit("n", "x" * (1 << 20)), id="a body that is too large"),
        pytest.param(
            RawRequest("POST", b"/trpc/note.upload", (("content-type", "application/octet-stream"),), b"12"), id="bytes"
        ),
        pytest.param(
            RawRequest("POST", b"/trpc/note.edit,note.edit?batch=1", JSON, b'{"0":{"id":"a"},"1":{"id":"a"}}'),
            id="two calls on one entity",
        ),
    ],
)
async def test_what_is_not_plain_takes_the_common_road_from_the_start(
    tmp_path: Path, started: list[Exchange], request_: RawRequest
) -> None:
    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        await exchange(port.url, request_)
        assert len(started) == 1
        await settled(port)


async def test_a_call_on_an_entity_that_is_being_changed_waits_for_its_turn(
    tmp_path: Path, started: list[Exchange]
) -> None:
    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port, asyncio.TaskGroup() as group:
        await warm(port)
        started.clear()
        port.writer.gate.clear()
        first = group.create_task(exchange(port.url, edit("n", "1")))
        await port.writer.reached.wait()
        second = group.create_task(exchange(port.url, edit("n", "2")))
        await until(lambda: started)
        assert len(port.intents()) == 2, "the second has no intent while the first is under way"
        port.writer.gate.set()
        await asyncio.gather(first, second)
        assert texts(port) == [{"id": "n", "text": "1"}, {"id": "n", "text": "2"}]


async def test_without_an_idle_connection_a_task_forwards_what_is_intended(
    tmp_path: Path, started: list[Exchange]
) -> None:
    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port:
        answer = await exchange(port.url, edit("n"))
        assert (answer.body, len(started)) == (DONE, 1)
        assert [intent.outcome for intent in port.intents()] == [Outcome.APPLIED]


async def test_an_answer_in_pieces_is_waited_for_by_a_task(tmp_path: Path, started: list[Exchange]) -> None:
    async def said(visit: Visit) -> None:
        await visit.say(OK + DONE[:5])
        await until(lambda: started)
        await visit.say(DONE[5:])

    async with scripted(Legacy(said)) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        assert (await exchange(port.url, edit("n"))).body == DONE
        assert outcomes(port) == [Outcome.APPLIED]
        await settled(port)


async def _closes(visit: Visit) -> None:
    visit.writer.close()


async def _says_nothing_that_can_be_read(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>")


async def _is_a_gateway(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("said", "status"), [(_closes, 502), (_says_nothing_that_can_be_read, 200), (_is_a_gateway, 504)]
)
async def test_an_answer_that_proves_nothing_leaves_a_doubt(
    tmp_path: Path, started: list[Exchange], said: Callable[[Visit], Any], status: int
) -> None:
    legacy = Legacy(said)
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        assert (await exchange(port.url, edit("n"))).status == status
        assert (len(started), outcomes(port), texts(port)) == (1, [Outcome.IN_DOUBT], [])
        assert len(legacy.asked) == 2, "nothing is ever forwarded twice"


async def test_an_error_of_the_legacy_is_plain(tmp_path: Path, started: list[Exchange]) -> None:
    body = b'{"error":{"message":"no","code":-32600,"data":{"code":"BAD_REQUEST","httpStatus":400}}}'

    async def said(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with scripted(Legacy(said)) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        answer = await exchange(port.url, edit("n"))
        assert (answer.status, answer.body) == (400, body)
        assert (started, outcomes(port), texts(port)) == ([], [Outcome.REJECTED], [])


async def test_an_intent_that_cannot_be_written_is_forwarded_nowhere(
    tmp_path: Path, started: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        monkeypatch.setattr(port.writer, "begin_then", _refusing)
        assert (await exchange(port.url, edit("n"))).status == 503
        assert (len(started), len(legacy.asked)) == (1, 1)
        await settled(port)


async def test_a_key_that_no_log_can_hold_is_refused(tmp_path: Path) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        assert (await exchange(port.url, edit("a\\u0000b"))).status == 400
        assert len(legacy.asked) == 1
        await settled(port)


async def test_an_outcome_that_cannot_be_written_now_is_written_in_the_end(
    tmp_path: Path, started: list[Exchange], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        monkeypatch.setattr(port.writer, "settle_then", _refusing)
        assert (await exchange(port.url, edit("n"))).body == DONE
        assert (len(started), outcomes(port), texts(port)) == (1, [Outcome.APPLIED], [{"id": "n", "text": "t"}])
        await settled(port)


def _refusing(asked: object, told: Any) -> None:
    told.set_exception(LogUnavailable(Trouble.DISK_FULL, "the disk is full"))


@pytest.mark.parametrize("moment", ["while the legacy works", "while the outcome is written"])
async def test_a_client_that_goes_leaves_a_mutation_that_is_seen_through(
    tmp_path: Path, started: list[Exchange], moment: str
) -> None:
    asked, going_on = asyncio.Event(), asyncio.Event()

    async def said(visit: Visit) -> None:
        asked.set()
        await going_on.wait()
        await visit.say(OK + DONE)

    async with scripted(Legacy(said)) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        started.clear()
        port.writer.gate.clear()
        _, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
        writer.write(wire(edit("n")))
        await asked.wait()
        if moment == "while the outcome is written":
            going_on.set()
            await port.writer.reached.wait()
        writer.close()
        await until(lambda: started)
        going_on.set()
        port.writer.gate.set()
        await settled(port)
        assert (outcomes(port), texts(port)) == ([Outcome.APPLIED], [{"id": "n", "text": "t"}])


@pytest.mark.parametrize("patience", [60, 0.2])
async def test_a_server_that_waits_no_longer_leaves_a_doubt_and_no_open_intent(
    tmp_path: Path, started: list[Exchange], patience: float
) -> None:
    """Whether it is hurried or its own patience ends."""
    asked = asyncio.Event()

    async def said(visit: Visit) -> None:
        asked.set()
        await visit.reader.read()

    async with (
        scripted(Legacy(said)) as server,
        mirrored(server.url, tmp_path) as port,
        asyncio.timeout(30),
        asyncio.TaskGroup() as group,
    ):
        await warm(port)
        started.clear()
        waiting = group.create_task(converse(port.server.port, wire(edit("n"))))
        await asked.wait()
        stopping = group.create_task(port.server.stop(patience))
        await until(lambda: port.server.stopping)
        if patience == 60:
            port.server.hurry()
        assert await waiting == b""
        await stopping
        assert (len(started), outcomes(port)) == (1, [Outcome.IN_DOUBT])


async def test_a_mistake_of_our_own_is_told_and_holds_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object, **options: object) -> None:
        raise ZeroDivisionError

    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        monkeypatch.setattr("proxy.app.decode_inputs", broken)
        assert (await exchange(port.url, edit("n"))).status == 500
        await settled(port)
        monkeypatch.undo()
        assert (await exchange(port.url, edit("n"))).status == 200


async def test_a_stage_change_waits_for_a_mutation_without_a_task(tmp_path: Path) -> None:
    async with scripted(Legacy()) as server, mirrored(server.url, tmp_path) as port, asyncio.TaskGroup() as group:
        await warm(port)
        port.writer.gate.clear()
        answering = group.create_task(exchange(port.url, edit("n")))
        await port.writer.reached.wait()
        assert port.proxy.fence.inside("notes") == 1
        port.writer.gate.set()
        async with port.proxy.fence.closed("notes", timeout=30):
            assert outcomes(port) == [Outcome.APPLIED]
        await answering


async def test_headers_that_a_client_repeats_tell_the_legacy_each_bodys_own_length(tmp_path: Path) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await warm(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port.server.port)
        for text in ("a", "bcd", "efghijklmnop"):
            body = f'{{"id":"n","text":"{text}"}}'.encode()
            head = b"POST /trpc/note.edit HTTP/1.1\r\nX-Before: 1\r\nContent-Length: %d\r\nHost: a\r\n\r\n" % len(body)
            writer.write(head + body)
            await reader.readuntil(DONE)
            assert legacy.asked[-1] == head + body
        writer.close()
