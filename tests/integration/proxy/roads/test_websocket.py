"""Calls over a WebSocket: frames unchanged and in order, none ahead of what has to be durable before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from shadow.journal import Outcome
from shadow.json import Json
from shadow.tasks import Tasks
from tests.support.mirrored import Mirrored, mirrored


@dataclass(slots=True)
class Legacy:
    """A legacy whose every word the test says."""

    heard: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    connections: asyncio.Queue[ServerConnection] = field(default_factory=asyncio.Queue)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.put_nowait(connection)
        async for message in connection:
            self.heard.put_nowait(str(message))
        self.closed.set()


@dataclass(frozen=True, slots=True)
class Line:
    """A client, the port that it is connected to, and the legacy behind it."""

    client: ClientConnection
    port: Mirrored
    legacy: Legacy
    server: ServerConnection

    async def calls(self, *requests: Json) -> str:
        """Send requests in one frame and return the frame that the legacy got."""
        await self.send(*requests)
        return await self.legacy.heard.get()

    async def send(self, *requests: Json) -> None:
        await self.client.send(json.dumps(requests[0] if len(requests) == 1 else requests))

    async def says(self, *answers: Json) -> None:
        """Let the legacy send answers."""
        for answer in answers:
            await self.server.send(json.dumps(answer))

    async def hears(self, count: int = 1) -> list[Json]:
        """Return the next messages that the client gets."""
        return [json.loads(await self.client.recv()) for _ in range(count)]

    def outcomes(self) -> list[tuple[str, Outcome | None, str | None]]:
        return [(intent.procedure, intent.outcome, intent.detail) for intent in self.port.intents()]


@asynccontextmanager
async def line(data: Path, *, patience: float = 60) -> AsyncIterator[Line]:
    legacy = Legacy()
    async with serve(legacy.serve, "127.0.0.1", 0) as server, asyncio.timeout(30):
        port = next(iter(server.sockets)).getsockname()[1]
        async with (
            mirrored(f"http://127.0.0.1:{port}", data, patience=patience) as mirror,
            connect(mirror.url.replace("http", "ws") + "/trpc", proxy=None) as client,
        ):
            yield Line(client, mirror, legacy, await legacy.connections.get())


def edit(identity: Json, key: str, text: str = "t") -> Json:
    return {"id": identity, "method": "mutation", "params": {"path": "note.edit", "input": {"id": key, "text": text}}}


def read(identity: Json) -> Json:
    return {"id": identity, "method": "query", "params": {"path": "note.get", "input": {"id": "n"}}}


def follow(identity: Json) -> Json:
    return {"id": identity, "method": "subscription", "params": {"path": "note.follow", "input": {"id": "n"}}}


def done(identity: Json, data: Json = None) -> Json:
    return {"id": identity, "result": {"type": "data", "data": data}}


def failed(identity: Json, code: int = -32009, name: str = "CONFLICT", status: int = 409) -> Json:
    return {"id": identity, "error": {"message": "no", "code": code, "data": {"code": name, "httpStatus": status}}}


async def test_the_intent_is_durable_before_the_legacy_gets_the_frame(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        text = await talk.calls(edit(1, "n"))
        assert talk.outcomes() == [("note.edit", Outcome.OPEN, None)]
        assert json.loads(text) == edit(1, "n")
        await talk.says(done(1))
        assert await talk.hears() == [done(1)]


async def test_an_answer_waits_for_its_event_and_what_follows_waits_for_the_answer(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(read(1))
        await talk.calls(edit(2, "n"))
        talk.port.writer.gate.clear()
        await talk.says(done(1, "before"), done(2), "PING", done(9, "after"))
        assert await talk.hears() == [done(1, "before")]
        await talk.port.writer.reached.wait()
        assert talk.port.events() == []
        talk.port.writer.gate.set()
        assert await talk.hears(3) == [done(2), "PING", done(9, "after")]
        assert talk.outcomes() == [("note.edit", Outcome.APPLIED, None)]
        assert [event.draft.data for event in talk.port.events()] == [{"id": "n", "text": "t"}]


async def test_a_bare_ping_overtakes_an_answer_that_waits(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(edit(1, "n"))
        talk.port.writer.gate.clear()
        await talk.says(done(1))
        await talk.port.writer.reached.wait()
        await talk.server.send("PING")
        assert await talk.client.recv() == "PING"
        await talk.client.send("PONG")
        assert await talk.legacy.heard.get() == "PONG"
        talk.port.writer.gate.set()
        assert await talk.hears() == [done(1)]


async def test_the_calls_of_one_tick_are_one_frame_and_are_answered_in_any_order(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        frame = [edit(1, "a"), read(2), edit(3, "b"), edit("x", "c")]
        assert json.loads(await talk.calls(*frame)) == frame
        answers = [done("x"), done(2, "read"), failed(3), done(1)]
        await talk.says(*answers)
        assert await talk.hears(4) == answers
        assert talk.outcomes() == [
            ("note.edit", Outcome.APPLIED, None),
            ("note.edit", Outcome.REJECTED, "CONFLICT"),
            ("note.edit", Outcome.APPLIED, None),
        ]


async def test_two_mutations_of_one_entity_reach_the_legacy_one_after_the_other(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(edit(1, "n", "first"))
        await talk.send(edit(2, "n", "second"))
        await talk.send(edit(3, "other"))
        await talk.client.send("PONG")
        assert await talk.legacy.heard.get() == "PONG"
        assert talk.legacy.heard.empty()
        await talk.says(done(1))
        assert [json.loads(await talk.legacy.heard.get())["id"] for _ in range(2)] == [2, 3]
        await talk.says(done(2), done(3))
        assert await talk.hears(3) == [done(1), done(2), done(3)]


async def test_what_the_legacy_did_not_answer_before_it_closed_is_in_doubt(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(edit(1, "a"))
        await talk.calls(edit(2, "b"))
        talk.port.writer.gate.clear()
        await talk.says(done(2))
        await talk.server.close(1012, "restart")
        await talk.port.writer.reached.wait()
        talk.port.writer.gate.set()
        assert await talk.hears() == [done(2)]
        with pytest.raises(ConnectionClosed) as closed:
            await talk.client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        await until_quiet(talk)
        assert sorted(outcome for _, outcome, _ in talk.outcomes() if outcome) == [Outcome.APPLIED, Outcome.IN_DOUBT]


async def test_a_client_that_leaves_cancels_no_mutation(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(edit(1, "n"))
        await talk.client.close()
        assert not talk.legacy.closed.is_set()
        await talk.says(done(1))
        await talk.legacy.closed.wait()
        assert talk.outcomes() == [("note.edit", Outcome.APPLIED, None)]


async def test_answers_to_calls_that_share_an_id_prove_nothing(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        await talk.calls(edit(1, "a"))
        await talk.calls(edit(1, "b"))
        await talk.says(done(1), done(1))
        assert await talk.hears(2) == [done(1), done(1)]
        assert [outcome for _, outcome, _ in talk.outcomes()] == [Outcome.IN_DOUBT, Outcome.IN_DOUBT]


async def test_a_mutation_that_is_not_answered_in_time_is_in_doubt_and_its_client_is_told(tmp_path: Path) -> None:
    async with line(tmp_path, patience=0.05) as talk:
        await talk.calls(edit(1, "n"))
        ((told),) = await talk.hears()
        assert told["error"]["data"]["code"] == "GATEWAY_TIMEOUT"
        await talk.says(done(1), done(2, "late answers are swallowed"))
        assert await talk.hears() == [done(2, "late answers are swallowed")]
        assert [outcome for _, outcome, _ in talk.outcomes()] == [Outcome.IN_DOUBT]


async def test_an_item_that_tells_of_a_write_waits_for_its_event_and_others_pass_at_once(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        shown = talk.port.tail.follow(["note:*"], 0)
        watching = Tasks().spawn(shown.next(), name="watching")
        await asyncio.sleep(0)
        await talk.calls(follow(1))
        talk.port.writer.gate.clear()
        items = [done(1, {"type": "delta", "id": "n", "text": "a"}), done(1, {"type": "made", "id": "n", "text": "b"})]
        await talk.says({"id": 1, "result": {"type": "started"}}, items[0])
        assert (await talk.hears(2))[1] == items[0]
        assert [entry.draft.type for entry in await watching] == ["note-delta"]
        await talk.says(items[1], done(1, {"type": "noise"}), {"id": 1, "result": {"type": "stopped"}})
        await talk.port.writer.reached.wait()
        assert talk.port.events() == []
        talk.port.writer.gate.set()
        assert await talk.hears(2) == [items[1], done(1, {"type": "noise"})]
        assert [event.draft.type for event in talk.port.events()] == ["note-made"]


async def test_messages_of_other_protocols_pass(tmp_path: Path) -> None:
    async with line(tmp_path) as talk:
        for message in ("{", "[]", "null", '{"type":"connection_init"}', ""):
            await talk.client.send(message)
            assert await talk.legacy.heard.get() == message
            await talk.server.send(message)
            assert await talk.client.recv() == message


async def until_quiet(talk: Line) -> None:
    """Return when no mutation is in flight."""
    async with talk.port.proxy.fence.closed("notes", timeout=20):
        pass
