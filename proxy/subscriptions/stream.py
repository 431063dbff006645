"""The answer that stays open: Server-Sent Events over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from proxy.forward import Receive, Scope, Send, exchange_of
from proxy.framing import Pairs
from shadow.tasks import Tasks

HEADERS: Final[Pairs] = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"vary", b"accept"),
]

LINGER = 10.0
"""Seconds that a client which was cut off has to take what is on its way."""


class EventStream:
    """One open answer."""

    __slots__ = ("_exchange", "_receive", "_send", "_tasks")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = exchange_of(scope)
        self._receive = receive
        self._send = send
        self._tasks: Tasks | None = None

    async def open(self) -> None:
        """Send the head."""
        await self._send({"type": "http.response.start", "status": 200, "headers": HEADERS})

    def watch(self, gone: Callable[[], None]) -> None:
        """Call `gone` when the client has gone. Costs no task under our own server."""
        if self._exchange is None:
            self._tasks = Tasks()
            self._tasks.spawn(self._until_gone(gone), name="until-gone")
        elif self._exchange.disconnected:
            gone()
        else:
            self._exchange.on_disconnect = gone

    def push(self, data: bytes) -> bool:
        """Send a piece at once; False, and nothing is sent, where `write` might have to wait."""
        return self._exchange is not None and self._exchange.push(data)

    async def write(self, data: bytes) -> None:
        """Send a piece; waits while the client does not keep up."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def last(self, data: bytes) -> None:
        """Send a last piece behind what is still on its way, and end without waiting."""
        exchange = self._exchange
        if exchange is not None:
            exchange.keep_alive = False
            asyncio.get_running_loop().call_later(LINGER, exchange.drop)
        await self._send({"type": "http.response.body", "body": data, "more_body": True, "urgent": True})
        await self._send({"type": "http.response.body", "body": b"", "urgent": True})

    async def end(self, data: bytes = b"") -> None:
        """Send a last piece and end."""
        await self._send({"type": "http.response.body", "body": data})

    async def close(self) -> None:
        """Stop watching."""
        if self._exchange is not None:
            self._exchange.on_disconnect = None
        if self._tasks is not None:
            await self._tasks.cancel()

    async def _until_gone(self, gone: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        gone()
