"""Plain Server-Sent Events for any client: `GET /_changeover/events?channel=session:*&channel=config:*&after=…`.

Every event has an id, the cursor that the client sends back as `Last-Event-ID` when it comes again. A cursor of
another log, or one that lies ahead of this log, is answered with one `reset` event that names the current cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

from proxy.forward import Receive, Scope, Send
from proxy.metrics import Metrics
from shadow import json
from shadow.events import Cursor, Draft
from shadow.json import Json
from shadow.tail import Entry, Tail

HEARTBEAT = 15.0
"""Seconds of silence after which a ping shows that the connection lives."""


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Answers readers from the tail of one log."""

    tail: Tail
    epoch: str
    metrics: Metrics

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream events to one reader until it leaves or the server stops."""
        wish = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        try:
            after = self._after(wish, scope["headers"])
        except ValueError as error:
            await _refuse(send, str(error))
            return
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"text/event-stream"),
                    (b"cache-control", b"no-cache, no-transform"),
                    (b"x-accel-buffering", b"no"),
                ],
            }
        )
        await _chunk(send, b"retry: 1000\n\n")
        if after is None:
            now = Cursor(self.epoch, self.tail.head)
            await _chunk(send, _frame("reset", str(now), {"cursor": str(now)}))
            after = now.position
        await self._stream(wish.get("channel", ["*"]), after, receive, send)

    async def _stream(self, channels: list[str], after: int, receive: Receive, send: Send) -> None:
        self.metrics.readers.inc()
        follower = self.tail.follow(channels, after)
        try:
            async with asyncio.TaskGroup() as group:
                gone = group.create_task(_until_gone(receive))
                deliver = group.create_task(self._deliver(follower.next, send))
                await asyncio.wait((gone, deliver), return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                deliver.cancel()
        finally:
            self.metrics.readers.dec()

    async def _deliver(self, following: Callable[[], Awaitable[list[Entry]]], send: Send) -> None:
        pending: asyncio.Future[list[Entry]] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                pending = pending or group.create_task(_awaited(following))
                done, _ = await asyncio.wait((pending,), timeout=HEARTBEAT)
                if done:
                    await _chunk(send, b"".join(self._encoded(entry) for entry in pending.result()))
                    pending = None
                else:
                    await _chunk(send, b"event: ping\ndata: \n\n")

    def _encoded(self, entry: Entry) -> bytes:
        encoded = entry.encodings.get("sse")
        if encoded is None:
            cursor = None if entry.position is None else Cursor(self.epoch, entry.position)
            encoded = _frame(None, str(cursor) if cursor else None, stored_event(entry.draft, cursor))
            entry.encodings["sse"] = encoded
        return encoded

    def _after(self, wish: dict[str, list[str]], headers: list[tuple[bytes, bytes]]) -> int | None:
        """Return the position to go on from, or None when the cursor cannot be served."""
        last = next((value.decode("latin-1") for name, value in headers if name.lower() == b"last-event-id"), "")
        text = last or wish.get("after", [""])[-1]
        if not text:
            return self.tail.head
        if text.isascii() and text.isdigit():
            position = int(text)
        else:
            cursor = Cursor.parse(text)
            if cursor.epoch != self.epoch:
                return None
            position = cursor.position
        return position if position <= self.tail.head else None


def stored_event(draft: Draft, cursor: Cursor | None) -> dict[str, Json]:
    """Return an event in the shape that subscribers know; an ephemeral one has no cursor."""
    payload = draft.data if isinstance(draft.data, dict) else {"value": draft.data}
    return {
        "id": draft.id,
        "cursor": cursor and {"timestamp": draft.time, "sequence": cursor.position},
        "channel": draft.channel,
        "type": draft.type,
        "timestamp": draft.time,
        "payload": {**payload, "type": draft.type},
    }


def _frame(name: str | None, cursor: str | None, data: Json) -> bytes:
    head = f"event: {name}\n" if name else ""
    place = f"id: {cursor}\n" if cursor else ""
    return f"{head}{place}data: ".encode() + json.encode(data) + b"\n\n"


async def _awaited(following: Callable[[], Awaitable[list[Entry]]]) -> list[Entry]:
    return await following()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _refuse(send: Send, sentence: str) -> None:
    body = json.encode({"error": sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
