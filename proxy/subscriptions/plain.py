"""Subscriptions for any client, under a prefix that no API has: Server-Sent Events and WebSocket.

`/_changeover/events` takes `channel` (repeated), `type` (repeated), `after` or the header `Last-Event-ID`, `last`, and
`format=cloudevents` or `Accept: application/cloudevents+json`. Browsers cannot send headers here, so the subscribers'
token may come as `token`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from proxy.forward import Receive, Scope, Send, send_whole
from proxy.roads.json import ClientLeft, TooLarge, whole_body
from proxy.subscriptions.feed import Chunk, Feed, Reader, Unavailable
from proxy.subscriptions.publish import (
    LARGEST,
    IdTaken,
    Publisher,
    PublishRefused,
    published_told,
    read_publication,
)
from proxy.subscriptions.shapes import Format, SocketCloud, SocketStored, SseCloud, SseStored
from proxy.subscriptions.snapshot import Snapshots, UnknownEntity
from proxy.subscriptions.stream import EventStream
from proxy.subscriptions.visibility import Credentials, Visibility
from proxy.subscriptions.wishes import Why, Wish, WishRefused, read_count, read_cursor, read_patterns
from proxy.trpc.sse import encode_event
from shadow import json
from shadow.errors import LogUnavailable, PositionConflict
from shadow.events import Cursor
from shadow.json import Json
from shadow.tasks import Tasks

RETRY = 1000
"""Milliseconds after which a client should come back."""

AWAY = 5000
"""The same, when what it wants cannot be had just now."""

SNAPSHOT = "/_changeover/snapshot"

_STATUS = {"UNAUTHORIZED": 401, "FORBIDDEN": 403}


@dataclass(frozen=True, slots=True)
class Plain:
    """Answers everything under the reserved prefix that concerns events."""

    feed: Feed
    visibility: Visibility
    publisher: Publisher
    snapshots: Snapshots

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream events to one reader until it leaves or the server stops."""
        query = _query(scope)
        sight = self.visibility.sight(_credentials(scope, query))
        try:
            wish = read_wish(query, scope["headers"])
            refused = await sight.refusal(wish.patterns)
        except WishRefused as error:
            await _answer(send, 400, {"error": str(error)})
            return
        except Unavailable as error:
            await _answer(send, 503, {"error": str(error)}, retry_after=AWAY // 1000)
            return
        if refused is not None:
            await _answer(send, _STATUS[refused[0]], {"error": refused[1]})
            return
        outlet = PlainStream(EventStream(scope, receive, send), self._sse_format(query, scope["headers"]))
        await outlet.open()
        try:
            await self.feed.read(wish, sight, outlet, outlet.attach)
        finally:
            await outlet.close()

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The same over a WebSocket; what the client says is not listened to."""
        if (await receive())["type"] != "websocket.connect":
            return
        query = _query(scope)
        sight = self.visibility.sight(_credentials(scope, query))
        try:
            wish = read_wish(query, scope["headers"])
            refused = await sight.refusal(wish.patterns)
        except WishRefused as error:
            await _deny(send, 400, str(error))
            return
        except Unavailable as error:
            await _deny(send, 503, str(error))
            return
        if refused is not None:
            await _deny(send, _STATUS[refused[0]], refused[1])
            return
        await send({"type": "websocket.accept"})
        outlet = PlainSocket(send, self._socket_format(query))
        listening: list[Reader] = []
        tasks = Tasks()
        reading = tasks.spawn(self.feed.read(wish, sight, outlet, listening.append), name="plain-socket")
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            for reader in listening:
                reader.leave()
            reading.cancel()
            await tasks.cancel()

    async def publish(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the event in the request's body on the stream."""
        sight = self.visibility.sight(_credentials(scope, _query(scope)))
        try:
            body = await whole_body(receive, LARGEST + 4096)
            publication = read_publication(json.decode(body), self.feed.epoch)
            self.publisher.rule(publication)
            if not await sight.sees_channel(publication.channel):
                await _answer(send, 403, {"error": f"{publication.channel} is not shown to you"})
                return
            published = await self.publisher.publish(publication)
        except ClientLeft:
            return
        except TooLarge:
            await _answer(send, 413, {"error": f"the payload may have {LARGEST} bytes"})
        except json.JsonError:
            await _answer(send, 400, {"error": "the body is not JSON"})
        except PublishRefused as error:
            await _answer(send, 400, {"error": str(error)})
        except IdTaken as error:
            await _answer(send, 409, {"error": str(error)})
        except PositionConflict as conflict:
            await _answer(send, 409, conflict_told(conflict, self.feed.epoch))
        except (LogUnavailable, Unavailable) as error:
            await _answer(send, 503, {"error": str(error)}, retry_after=AWAY // 1000)
        else:
            await _answer(send, 200 if published.again else 201, published_told(published))

    async def snapshot(self, scope: Scope, send: Send) -> None:
        """Answer with the state of an entity at one position."""
        query = _query(scope)
        sight = self.visibility.sight(_credentials(scope, query))
        one = {name: values[-1] for name, values in query.items()}
        try:
            at = read_cursor(one.get("at", ""))
            found = await self.snapshots.take(
                one.get("entity", ""),
                sight,
                key=one.get("key"),
                after=one.get("next"),
                at=at.position if isinstance(at, Cursor) else at,
            )
        except (UnknownEntity, WishRefused) as error:
            await _answer(send, 400, {"error": str(error)})
        except Unavailable as error:
            await _answer(send, 503, {"error": str(error)}, retry_after=AWAY // 1000)
        else:
            await _answer(send, 200, found)

    def _sse_format(self, query: Mapping[str, Sequence[str]], headers: Sequence[tuple[bytes, bytes]]) -> Format:
        accepts = b",".join(value for name, value in headers if name.lower() == b"accept")
        if query.get("format", [""])[-1] == "cloudevents" or b"application/cloudevents+json" in accepts:
            return SseCloud(self.feed.epoch)
        return SseStored(self.feed.epoch)

    def _socket_format(self, query: Mapping[str, Sequence[str]]) -> Format:
        if query.get("format", [""])[-1] == "cloudevents":
            return SocketCloud(self.feed.epoch)
        return SocketStored(self.feed.epoch)


class PlainStream:
    """A reader of Server-Sent Events."""

    def __init__(self, stream: EventStream, shape: Format) -> None:
        self.format = shape
        self._stream = stream

    async def open(self) -> None:
        """Send the head."""
        await self._stream.open()

    def attach(self, reader: Reader) -> None:
        """Let the reader know when the client leaves."""
        self._stream.watch(reader.leave)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._stream.close()

    async def hello(self, cursor: Cursor) -> None:
        """Name the cursor, so that a client which has seen nothing yet can go on from here."""
        await self._stream.write(_named("hello", {"cursor": str(cursor)}, cursor, retry=RETRY))

    def push(self, chunk: Chunk) -> bool:
        """Send events, if that can be done at once."""
        return self._stream.push(chunk.data)

    async def write(self, chunk: Chunk) -> None:
        """Send events."""
        await self._stream.write(chunk.data)

    async def ping(self, cursor: Cursor) -> None:
        """Show life, and how far the client is."""
        await self._stream.write(_named("ping", {"cursor": str(cursor)}, cursor))

    async def reset(self, why: Why, cursor: Cursor) -> None:
        """Tell the client to load the state again."""
        await self._stream.write(_named("reset", reset_told(why, cursor), cursor))

    async def cut(self, cursor: Cursor) -> None:
        """Tell the client that it was too slow."""
        await self._stream.last(_named("cut", {"reason": "slow", "cursor": str(cursor)}))

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        """Tell the client to come back."""
        told: dict[str, Json] = {"reason": "unavailable", "message": sentence, "cursor": str(cursor)}
        await self._stream.end(_named("cut", told, retry=AWAY))

    async def finish(self) -> None:
        """End; the client comes back by itself."""
        await self._stream.end()


class PlainSocket:
    """A reader over a plain WebSocket."""

    def __init__(self, send: Send, shape: Format) -> None:
        self.format = shape
        self._send = send

    async def hello(self, cursor: Cursor) -> None:
        """Name the cursor."""
        await self._say({"kind": "hello", "cursor": str(cursor)})

    def push(self, chunk: Chunk) -> bool:
        """Leave it to `write`: the server's WebSocket takes messages from coroutines only."""
        return False

    async def write(self, chunk: Chunk) -> None:
        """Send an event."""
        await self._text(chunk.data.decode())

    async def ping(self, cursor: Cursor) -> None:
        """Show life to clients that cannot see a WebSocket's own pings, and how far they are."""
        await self._say({"kind": "ping", "cursor": str(cursor)})

    async def reset(self, why: Why, cursor: Cursor) -> None:
        """Tell the client to load the state again."""
        await self._say({"kind": "reset", **reset_told(why, cursor)})

    async def cut(self, cursor: Cursor) -> None:
        """Close; the reason names the cursor."""
        await self._close(1013, f"too slow; go on after {cursor}", urgent=True)

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        """Close; the client may come back."""
        await self._say({"kind": "cut", "reason": "unavailable", "message": sentence, "cursor": str(cursor)})
        await self._close(1013, f"unavailable; go on after {cursor}")

    async def finish(self) -> None:
        """Close; the client comes back."""
        await self._close(1012, "the proxy stops")

    async def _say(self, message: Json) -> None:
        await self._text(json.encode(message).decode())

    async def _text(self, text: str) -> None:
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.send", "text": text})

    async def _close(self, code: int, reason: str, *, urgent: bool = False) -> None:
        with contextlib.suppress(OSError):
            await self._send({"type": "websocket.close", "code": code, "reason": reason, "urgent": urgent})


def read_wish(query: Mapping[str, Sequence[str]], headers: Sequence[tuple[bytes, bytes]]) -> Wish:
    """Read what a request asks for; raises `WishRefused`."""
    resumed = next((value.decode("latin-1") for name, value in headers if name.lower() == b"last-event-id"), "")
    types = frozenset(each for value in query.get("type", ()) for each in value.split(",") if each)
    last = query.get("last", ["0"])[-1]
    return Wish(
        read_patterns(query.get("channel", ())),
        types or None,
        read_cursor(resumed or query.get("after", [""])[-1]),
        read_count(last),
    )


def reset_told(why: Why, cursor: Cursor) -> dict[str, Json]:
    """Return what a client is told that cannot go on from its cursor."""
    return {"reason": why.value, "cursor": str(cursor), "snapshot": SNAPSHOT}


def conflict_told(conflict: PositionConflict, epoch: str) -> dict[str, Json]:
    """Return what a client is told that expected the channel elsewhere."""
    return {"error": str(conflict), "position": conflict.actual, "cursor": str(Cursor(epoch, conflict.actual))}


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _credentials(scope: Scope, query: Mapping[str, Sequence[str]]) -> Credentials:
    return Credentials.of(scope["headers"], token=query["token"][-1] if query.get("token") else None)


def _named(name: str, data: Json, cursor: Cursor | None = None, *, retry: int | None = None) -> bytes:
    place = None if cursor is None else str(cursor)
    return encode_event(json.encode(data).decode(), event=name, event_id=place, retry=retry)


async def _answer(send: Send, status: int, body: Json, *, retry_after: int | None = None) -> None:
    data = json.encode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    await send_whole(send, status, headers, data)


async def _deny(send: Send, status: int, sentence: str) -> None:
    data = json.encode({"error": sentence})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": data})
