"""Subscriptions over a real log and a real server, without the rest of the proxy."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from proxy.metrics import Metrics
from proxy.refusal import Refusals
from proxy.server import bind, serving
from proxy.subscriptions.feed import Pace
from proxy.subscriptions.routes import Subscriptions, subscriptions
from proxy.trpc.sse import SseDecoder, SseEvent
from proxy.trpc.targets import Calls, parse_target
from proxy.trpc.transformers import TRANSFORMERS
from proxy.upstream import Upstream
from shadow.contract import Contract, parse
from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json
from shadow.log import Log

CONTRACT = """
[legacy]
base_path = "/trpc"
transformer = "none"

[phase.notes]
entities = ["note"]

[entity.note]
key = "item.id"
fields = ["title"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'session:' + output.id"
data = "output"

[channel."app:*"]
publish = [
    { event = "notice", required = ["text"], optional = ["level"] },
    { event = "cursor-moved", required = ["at"], durable = false },
]
"""

_ids = itertools.count(1)


@dataclass(slots=True)
class Running:
    """A running feed; `url` has no path."""

    url: str
    log: Log
    contract: Contract
    subscriptions: Subscriptions
    metrics: Metrics
    written: list[Draft] = field(default_factory=list)

    async def say(self, channel: str, kind: str = "said", **data: Json) -> str:
        """Append an event; returns its cursor."""
        return (await self.say_all([(channel, kind, data)]))[-1]

    async def say_all(self, events: Sequence[tuple[str, str, dict[str, Json]]]) -> list[str]:
        """Append events in one transaction; returns their cursors."""
        drafts = [Draft(f"e{next(_ids)}", channel, kind, 1_700_000_000_000, data) for channel, kind, data in events]
        stored = await self.log.append(drafts)
        self.written += drafts
        return [f"{self.log.head.epoch}-{event.position}" for event in stored]

    async def until_readers(self, count: int) -> None:
        """Wait until there are so many subscriptions."""
        while self.subscriptions.feed.readers != count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)

    async def put(self, key: str, effect: Effect = Effect.PUT, **fields: Json) -> None:
        """Append an event that changes a note."""
        change = None if effect is Effect.DELETE else fields
        entity = EntityKey("note", key)
        kind = "note-deleted" if effect is Effect.DELETE else "note-put"
        draft = Draft(f"e{next(_ids)}", f"session:{key}", kind, 1, {"id": key}, entity, effect, change)
        await self.log.append([draft])


@asynccontextmanager
async def running_feed(
    database: Path,
    contract: str = CONTRACT,
    *,
    legacy: str = "http://127.0.0.1:1",
    token: str | None = None,
    pace: Pace | None = None,
    port: int = 0,
) -> AsyncIterator[Running]:
    """A feed over the log in `database`, which may have been used before."""
    log = Log.open(f"sqlite:///{database}")
    upstream = Upstream(legacy)
    rules = parse(contract, "contract.toml")
    metrics = Metrics()
    transformer = TRANSFORMERS[rules.legacy.transformer]
    parts = subscriptions(
        log,
        rules,
        upstream,
        metrics,
        refuse=Refusals(transformer),
        token=token,
        clock=lambda: 1_700_000_000_000,
        new_id=lambda: f"n{next(_ids)}",
        pace=pace,
    )

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"].startswith("/_changeover/"):
            answer = parts.reserved_socket if scope["type"] == "websocket" else parts.reserved
            await answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            assert await parts.sockets.alone(scope, receive, send, 404)
        else:
            target = parse_target(scope["method"], scope["raw_path"], scope["query_string"], base_path="/trpc")
            assert isinstance(target, Calls)
            await parts.calls.answer(scope, receive, send, target, legacys_share)

    async def legacys_share(scope: dict[str, Any], receive: Any, send: Any) -> None:
        request = await receive()
        told = {"method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode()}
        told |= {"body": request["body"].decode(), "headers": [name.decode() for name, _ in scope["headers"]]}
        count = scope["path"].count(",") + 1
        body = json.dumps([{"result": {"data": told}}] * count).encode()
        headers = [(b"content-type", b"application/json"), (b"x-legacy", b"yes")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    parts.feed.start()
    try:
        async with serving(app, bind("127.0.0.1", port), grace=2) as server:
            try:
                yield Running(f"http://127.0.0.1:{server.port}", log, rules, parts, metrics)
            finally:
                await parts.feed.close()
    finally:
        await upstream.close()
        await log.close()


class SseReader:
    """One open stream of events, read with httpx."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._pieces = response.aiter_bytes()
        self._decoder = SseDecoder()
        self._events: list[SseEvent] = []
        self.last_id = ""

    async def next(self) -> SseEvent:
        """Return the next event of any name; raises StopAsyncIteration at the end of the stream."""
        while not self._events:
            self._events = self._decoder.feed(await anext(self._pieces))
        event = self._events.pop(0)
        if event.id is not None:
            self.last_id = event.id
        return event

    async def item(self) -> Json:
        """Return the data of the next unnamed event."""
        while True:
            event = await self.next()
            if event.event == "message":
                return json.loads(event.data)

    async def items(self, count: int) -> list[Json]:
        """Return the data of the next unnamed events."""
        return [await self.item() for _ in range(count)]


@asynccontextmanager
async def sse(url: str, *, headers: dict[str, str] | None = None, **params: Any) -> AsyncIterator[SseReader]:
    """Open a stream of events."""
    async with (
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
        http.stream("GET", url, params=params or None, headers=headers or {}) as response,
    ):
        yield SseReader(response)
