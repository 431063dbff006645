"""The overlay over tRPC's WebSocket: on a connection that goes to the legacy, or alone where that has none.

What calls the overlay is answered here and taken out of the client's frames; everything else goes on as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qs

from proxy.forward import Receive, Scope, Send
from proxy.subscriptions.feed import Chunk, Reader
from proxy.subscriptions.overlay import Overlay, Refusal
from proxy.subscriptions.plain import AWAY
from proxy.subscriptions.shapes import SocketTracked
from proxy.subscriptions.visibility import Credentials, SubscriberSight
from proxy.subscriptions.wishes import Why
from proxy.trpc import jsontext
from proxy.trpc import websocket as wire
from proxy.trpc.websocket import ClientMessage, ConnectionParams, Id, KeepAlive, Request, Stop
from proxy.websocket import Message, Relay, Watch, Watcher
from shadow import json
from shadow.events import Cursor
from shadow.json import Json
from shadow.tasks import Tasks

_NO_SOCKET = "the API has no WebSocket: send queries and mutations over HTTP; only {prefix}* is answered here"
_AWAY = "the API cannot be reached just now; only {prefix}* is answered here"
_NEVER_ALONE = frozenset({401, 403, 407, 429})
"""Statuses with which the legacy turns a client away although it has a WebSocket."""


class Client(Protocol):
    """The client's end of a connection."""

    async def to_client(self, message: Message) -> None:
        """Send to the client; waits while it does not keep up, does nothing when it has gone."""

    async def close_client(self, code: int, reason: str, *, urgent: bool = False) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True, eq=False)
class OverlaySockets:
    """The overlay on all connections."""

    overlay: Overlay
    _waiting: set[OverlaySocket] = field(default_factory=set)

    def watch(self, relay: Relay, inner: Watch) -> Watcher:
        """Watch a connection that goes to the legacy; `inner` watches what is the legacy's."""
        return _Beside(OverlaySocket(self.overlay, relay, relay.scope), inner(relay))

    async def alone(self, scope: Scope, receive: Receive, send: Send, status: int) -> bool:
        """Serve a client that the legacy does not take, unless its status is meant for the client."""
        base = self.overlay.contract.legacy.base_path
        if status in _NEVER_ALONE or scope["path"].rstrip("/") not in ("", base) or not self.overlay.answers:
            return False
        protocols = scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": protocols[0] if protocols else None})
        client = _Alone(send)
        socket = OverlaySocket(self.overlay, client, scope)
        away = status >= 500
        if away:
            self._waiting.add(socket)
        try:
            await self._serve(socket, client, receive, away=away)
        finally:
            self._waiting.discard(socket)
            await socket.close()
        return True

    async def _serve(self, socket: OverlaySocket, client: _Alone, receive: Receive, *, away: bool) -> None:
        code, sentence = ("SERVICE_UNAVAILABLE", _AWAY) if away else ("NOT_IMPLEMENTED", _NO_SOCKET)
        sentence = sentence.format(prefix=self.overlay.prefix)
        while (event := await receive())["type"] != "websocket.disconnect":
            message: Message = event["bytes"] if event.get("text") is None else event["text"]
            for left in await socket.take(message):
                if isinstance(left, KeepAlive) and left.text == wire.PING:
                    await client.to_client(wire.PONG)
                elif isinstance(left, Request):
                    await client.to_client(
                        wire.error(left.id, code, sentence, transformer=self.overlay.transformer, path=left.path)
                    )
        client.left()

    async def legacy_up(self) -> None:
        """Ask the clients that could not reach the legacy to connect again, now that it is there."""
        for socket in tuple(self._waiting):
            await socket.client.to_client(wire.RECONNECT)


class OverlaySocket:
    """What one connection asks of the overlay."""

    def __init__(self, overlay: Overlay, client: Client, scope: Scope) -> None:
        self.client = client
        self._overlay = overlay
        self._scope = scope
        self._params_first = "connectionParams" in parse_qs(scope["query_string"].decode("latin-1"))
        self._sight: SubscriberSight | None = None if self._params_first else self._sight_of(None)
        self._running: dict[Id, _Subscription] = {}
        self._tasks = Tasks()
        self._mark = overlay.prefix

    def concerns(self, message: Message) -> bool:
        """Tell cheaply whether a message may be for the overlay; most are not."""
        if isinstance(message, bytes):
            return False
        return (
            self._mark in message
            or (self._sight is None and "connectionParams" in message)
            or (bool(self._running) and "subscription.stop" in message)
        )

    async def take(self, message: Message) -> tuple[ClientMessage, ...]:
        """Do what a message asks of the overlay; returns what is for somebody else."""
        parsed = wire.parse_client_frame(message, self._overlay.transformer)
        return tuple([each for each in parsed if not self._took(each)])

    async def filter(self, message: Message) -> Message | None:
        """Do what a message asks of the overlay; returns what is left of it for the legacy, as it came."""
        if not self.concerns(message):
            return message
        parsed = wire.parse_client_frame(message, self._overlay.transformer)
        mine = [self._took(each) for each in parsed]
        if not any(mine):
            return message
        raw = jsontext.parse(message)
        if not isinstance(raw, list):
            return None
        left = [each for each, taken in zip(raw, mine, strict=True) if not taken]
        return json.encode(left).decode() if left else None

    async def close(self) -> None:
        """The client has gone."""
        for subscription in self._running.values():
            subscription.leave()
        await self._tasks.cancel()

    def _took(self, message: ClientMessage) -> bool:
        match message:
            case ConnectionParams(data):
                if self._sight is None:
                    self._sight = self._sight_of(data)
                return False  # the legacy waits for them too
            case Stop(id):
                subscription = self._running.get(id)
                if subscription is None:
                    return False
                subscription.stop()
                return True
            case Request() if self._overlay.kind(message.path):
                self._start(message)
                return True
        return False

    def _sight_of(self, params: Json) -> SubscriberSight:
        return self._overlay.sight(Credentials.of(self._scope["headers"], params))

    def _start(self, request: Request) -> None:
        if self._sight is None:
            self._sight = self._sight_of(None)
        if request.type != "subscription":
            self._tasks.spawn(self._call(request, self._sight), name="overlay-call")
        elif request.id in self._running:
            refusal = Refusal("BAD_REQUEST", f"Duplicate id {request.id}")
            self._tasks.spawn(self._say(_error(self._overlay, request, refusal)), name="overlay-refusal")
        else:
            subscription = _Subscription(self._overlay, self.client, request, self._sight)
            self._running[request.id] = subscription
            subscription.begin(self._tasks, lambda: self._ended(request.id, subscription))

    def _ended(self, identity: Id, subscription: _Subscription) -> None:
        if self._running.get(identity) is subscription:
            del self._running[identity]

    async def _call(self, request: Request, sight: SubscriberSight) -> None:
        overlay = self._overlay
        try:
            if overlay.kind(request.path) != request.type:
                raise Refusal("NOT_FOUND", f'No "{request.type}"-procedure on path "{request.path}"')
            output = await overlay.call(request.path, request.input, sight)
        except Refusal as refusal:
            await self._say(_error(overlay, request, refusal))
        else:
            await self._say(wire.result(request.id, output, transformer=overlay.transformer))

    async def _say(self, message: str) -> None:
        await self.client.to_client(message)


class _Subscription:
    """One subscription on a connection; also the outlet of its reader."""

    def __init__(self, overlay: Overlay, client: Client, request: Request, sight: SubscriberSight) -> None:
        self.format = SocketTracked(overlay.feed.epoch, overlay.transformer)
        self._overlay = overlay
        self._client = client
        self._request = request
        self._sight = sight
        self._head = '{"id":' + json.encode(request.id).decode() + ',"result":'
        self._reader: Reader | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def begin(self, tasks: Tasks, ended: Callable[[], None]) -> None:
        """Start to read."""
        self._task = tasks.spawn(self._run(), name="overlay-subscription")
        self._task.add_done_callback(lambda _: ended())

    def leave(self) -> None:
        """The client has gone."""
        if self._reader is not None:
            self._reader.leave()

    def stop(self) -> None:
        """The client has had enough."""
        self._stopped = True
        if self._reader is not None:
            self._reader.leave()

    async def _run(self) -> None:
        request = self._request
        try:
            if self._overlay.kind(request.path) != "subscription":
                raise Refusal("NOT_FOUND", f'No "subscription"-procedure on path "{request.path}"')
            wish = await self._overlay.wish(
                request.path, request.input, self._sight, last_event_id=request.last_event_id
            )
        except Refusal as refusal:
            await self._client.to_client(_error(self._overlay, request, refusal))
            return
        await self._overlay.feed.read(wish, self._sight, self, self._attach)
        if self._stopped:
            await self._client.to_client(wire.stopped(request.id))

    def _attach(self, reader: Reader) -> None:
        self._reader = reader
        if self._stopped:
            reader.leave()

    async def hello(self, cursor: Cursor) -> None:
        """Say that the subscription runs."""
        await self._client.to_client(wire.started(self._request.id))

    def push(self, chunk: Chunk) -> bool:
        """Leave it to `write`: the server's WebSocket takes messages from coroutines only."""
        return False

    async def write(self, chunk: Chunk) -> None:
        """Send one item."""
        await self._client.to_client(self._head + chunk.data.decode() + "}")

    async def ping(self, cursor: Cursor) -> None:
        """Nothing: the WebSocket has pings of its own, and text would break older clients."""

    async def reset(self, why: Why, cursor: Cursor) -> None:
        """Tell the client to load the state again, with an item: stock clients see nothing else."""
        item = self._overlay.reset(why, cursor)
        await self._client.to_client(
            wire.tracked(self._request.id, str(cursor), item, transformer=self._overlay.transformer)
        )

    async def cut(self, cursor: Cursor) -> None:
        """Close the connection; a stock client opens another and goes on from its last item."""
        await self._client.close_client(1013, f"too slow; go on after {cursor}", urgent=True)

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        """Ask the client to connect again after a while: an error would end its subscription for good."""
        await asyncio.sleep(AWAY / 1000)
        await self._client.to_client(wire.RECONNECT)

    async def finish(self) -> None:
        """Nothing: the server closes the connection in such a way that the client comes back."""


class _Beside:
    """Watches a connection that goes to the legacy: the overlay's share is taken out, the rest is watched as ever."""

    def __init__(self, socket: OverlaySocket, inner: Watcher) -> None:
        self._socket = socket
        self._inner = inner

    async def client_message(self, message: Message) -> Message | None:
        left = await self._socket.filter(message)
        return None if left is None else await self._inner.client_message(left)

    async def server_message(self, message: Message) -> Message | None:
        return await self._inner.server_message(message)

    async def client_gone(self) -> None:
        await self._socket.close()
        await self._inner.client_gone()

    async def legacy_gone(self) -> None:
        await self._inner.legacy_gone()

    async def ended(self) -> None:
        await self._socket.close()
        await self._inner.ended()


class _Alone:
    """The client's end of a connection that goes no further."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._here = True

    async def to_client(self, message: Message) -> None:
        if self._here:
            kind = "text" if isinstance(message, str) else "bytes"
            try:
                await self._send({"type": "websocket.send", kind: message})
            except OSError:
                self._here = False

    async def close_client(self, code: int, reason: str, *, urgent: bool = False) -> None:
        if self._here:
            self._here = False
            await self._send({"type": "websocket.close", "code": code, "reason": reason, "urgent": urgent})

    def left(self) -> None:
        self._here = False


def _error(overlay: Overlay, request: Request, refusal: Refusal) -> str:
    shape = overlay.transformer.encode(refusal.shape(request.path))
    return json.encode({"id": request.id, "error": shape}).decode()
