"""Pass one WebSocket through to the legacy: messages both ways in order, the handshake's words, the close's code.

A watcher may look at every message before it goes on, hold it back for as long as it must, change or swallow it, and
speak to either side itself. Each direction is in order and waits only for itself; a slow side makes the other wait.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from proxy.forward import TOLD, Forwarding, Receive, Refuse, Scope, Send, outgoing_head, plain_refusal
from proxy.framing import HOP_BY_HOP, Pairs, Refused
from proxy.server import BIGGEST_MESSAGE
from proxy.upstream import Upstream

Message: TypeAlias = str | bytes
"""A text message or a binary one."""

BAD_GATEWAY = 1014
"""The close code that says: the server behind broke off."""

_OF_THE_HANDSHAKE = HOP_BY_HOP | {b"host", b"content-length"}
_NO_CODE = 1005


class Watcher(Protocol):
    """Somebody who watches one WebSocket."""

    async def client_message(self, message: Message) -> Message | None:
        """A message of the client; what is returned goes to the legacy, None goes nowhere."""

    async def server_message(self, message: Message) -> Message | None:
        """A message of the legacy; what is returned goes to the client, None goes nowhere."""

    async def client_gone(self) -> None:
        """The client has gone. The legacy is read on, and its messages are shown, until this returns."""

    async def legacy_gone(self) -> None:
        """The legacy has closed. The client is told when this returns, so it may get what is still held back."""

    async def ended(self) -> None:
        """Neither side says anything more."""


class Relay:
    """The two ends of one WebSocket, for a watcher that speaks itself."""

    def __init__(self, scope: Scope, send: Send, legacy: ClientConnection) -> None:
        self.scope = scope
        self._send = send
        self._legacy = legacy
        self._client_here = True

    async def to_client(self, message: Message) -> None:
        """Send to the client; does nothing when it has gone."""
        if not self._client_here:
            return
        kind = "text" if isinstance(message, str) else "bytes"
        try:
            await self._send({"type": "websocket.send", kind: message})
        except OSError:
            self._client_here = False

    async def to_legacy(self, message: Message) -> None:
        """Send to the legacy; does nothing when it has gone."""
        with contextlib.suppress(ConnectionClosed):
            await self._legacy.send(message)

    async def close_client(self, code: int, reason: str, *, urgent: bool = False) -> None:
        """Close the client's side; when it is `urgent`, without waiting until the client has taken what was sent."""
        if self._client_here:
            self._client_here = False
            with contextlib.suppress(OSError):
                await self._send({"type": "websocket.close", "code": code, "reason": reason, "urgent": urgent})

    def client_left(self) -> None:
        """Note that the client closed its side."""
        self._client_here = False


Watch: TypeAlias = Callable[[Relay], Watcher]

Unserved: TypeAlias = Callable[[int], Awaitable[bool]]
"""Asked when the legacy does not take a WebSocket, with the status for its client: True when it was taken instead."""


async def forward_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    upstream: Upstream,
    *,
    forwarding: Forwarding = TOLD,
    refuse: Refuse = plain_refusal,
    watch: Watch | None = None,
    unserved: Unserved | None = None,
) -> None:
    """Pass one WebSocket through, for an ASGI `websocket` scope.

    The client's handshake is answered as the legacy answers it: its subprotocol and headers, or its refusal, unless
    `unserved` takes the client that the legacy does not.
    Compression is between neighbours only; pings are answered by whoever gets them.
    """
    if (await receive())["type"] != "websocket.connect":
        return
    denial: tuple[int, Pairs, bytes]
    try:
        legacy = await _connect(scope, upstream, forwarding)
    except Refused as refusal:
        await _deny(send, *refuse(scope, refusal.status, str(refusal)))
        return
    except InvalidStatus as refused:
        answer = refused.response
        denial = answer.status_code, _passed_on(answer.headers), bytes(answer.body or b"")
    except TimeoutError:
        denial = refuse(scope, 504, "the legacy did not answer the WebSocket handshake in time")
    except (OSError, EOFError, InvalidHandshake):
        denial = refuse(scope, 502, f"no WebSocket with the legacy at {upstream.address}")
    else:
        async with legacy:
            await _relay(scope, receive, send, legacy, watch)
        return
    if unserved is None or not await unserved(denial[0]):
        await _deny(send, *denial)


async def _relay(scope: Scope, receive: Receive, send: Send, legacy: ClientConnection, watch: Watch | None) -> None:
    response = legacy.response
    headers = [] if response is None else _passed_on(response.headers)
    try:
        await send({"type": "websocket.accept", "subprotocol": legacy.subprotocol, "headers": headers})
    except OSError:
        return
    relay = Relay(scope, send, legacy)
    watcher = None if watch is None else watch(relay)
    try:
        async with asyncio.TaskGroup() as pumps:
            from_client = pumps.create_task(_from_client(receive, relay, legacy, watcher))
            from_legacy = pumps.create_task(_from_legacy(relay, legacy, watcher))
            from_client.add_done_callback(lambda _: from_legacy.cancel())
            from_legacy.add_done_callback(lambda _: from_client.cancel())
    finally:
        if watcher is not None:
            await watcher.ended()


async def _from_client(receive: Receive, relay: Relay, legacy: ClientConnection, watcher: Watcher | None) -> None:
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            relay.client_left()
            if watcher is not None:
                await watcher.client_gone()
            await legacy.close(_sendable(event.get("code")), event.get("reason") or "")
            return
        message: Message | None = event.get("text")
        if message is None:
            message = event["bytes"]
        if watcher is not None:
            message = await watcher.client_message(message)
        if message is not None:
            await relay.to_legacy(message)


async def _from_legacy(relay: Relay, legacy: ClientConnection, watcher: Watcher | None) -> None:
    try:
        while True:
            message: Message | None = await legacy.recv()
            if watcher is not None and message is not None:
                message = await watcher.server_message(message)
            if message is not None:
                await relay.to_client(message)
    except ConnectionClosed as closed:
        if watcher is not None:
            await watcher.legacy_gone()
        if closed.rcvd is None:
            await relay.close_client(BAD_GATEWAY, "the connection to the legacy broke off")
        else:
            await relay.close_client(_sendable(closed.rcvd.code), closed.rcvd.reason)


def _sendable(code: int | None) -> int:
    """A close that came without a code goes on as a normal one: 1005 and 1006 may not be sent."""
    if code is None or code == _NO_CODE:
        return 1000
    return 1001 if code == 1006 else code


class _Direct(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Pass a redirect on to the client instead of following it."""
        return exc


async def _connect(scope: Scope, upstream: Upstream, forwarding: Forwarding) -> ClientConnection:
    head = outgoing_head({**scope, "method": "GET", "scheme": _HTTP[scope["scheme"]]}, forwarding)
    host = next((value for name, value in head.headers if name.lower() == b"host"), b"localhost").decode("latin-1")
    kept = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in head.headers
        if name.lower() not in _OF_THE_HANDSHAKE and not name.lower().startswith(b"sec-websocket-")
    ]
    address = upstream.address
    options: dict[str, Any] = {
        "additional_headers": kept,
        "user_agent_header": None,
        "subprotocols": [Subprotocol(name) for name in scope["subprotocols"]] or None,
        "compression": None,
        "proxy": None,
        "open_timeout": upstream.limits.connect_timeout,
        "max_size": BIGGEST_MESSAGE,
    }
    uri = f"{'wss' if address.tls else 'ws'}://{host}{head.target.decode('latin-1')}"
    if address.path is not None:
        return await unix_connect(address.path, uri, **options)
    if address.tls:
        options |= {"ssl": upstream.tls, "server_hostname": address.host}
    return await _Direct(uri, host=address.host, port=address.port, **options)


def _passed_on(headers: Headers) -> Pairs:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.raw_items()
        if name.lower().encode("latin-1") not in HOP_BY_HOP and not name.lower().startswith("sec-websocket-")
    ]


async def _deny(send: Send, status: int, headers: Pairs, body: bytes) -> None:
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


_HTTP = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
