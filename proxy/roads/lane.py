"""One direction of a connection: messages that leave in the order in which they came, each when it is ready."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog

from proxy.websocket import Message
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)

Ready: TypeAlias = Awaitable[Message | None]
"""Becomes the message that may go on now, or None when none may."""

MOST_WAITING = 16 * 1024 * 1024
_OF_EACH = 256


class Lane:
    """Sends in order what becomes ready in any order; what is not ready holds up what came after it.

    Work is awaited one after the other: a coroutine begins when all before it has left, a task may be done by then.
    """

    def __init__(self, send: Callable[[Message], Awaitable[None]], tasks: Tasks, *, name: str) -> None:
        self._send = send
        self._tasks = tasks
        self._name = name
        self._waiting: deque[tuple[Message | Ready, int]] = deque()
        self._size = 0
        self._sending: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way, so that a message may go on directly."""
        return self._sending is None or self._sending.done()

    async def put(self, message: Message | Ready, size: int) -> None:
        """Take a message of `size` bytes in; waits while too much is on its way."""
        self._waiting.append((message, size + _OF_EACH))
        self._size += size + _OF_EACH
        if self.idle:
            self._sending = self._tasks.spawn(self._send_all(), name=self._name)
        while self._size > MOST_WAITING and not self.idle:
            await self.left()

    async def left(self) -> None:
        """Wait until everything has left."""
        while self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))

    async def _send_all(self) -> None:
        while self._waiting:
            item, size = self._waiting.popleft()
            try:
                message = item if isinstance(item, str | bytes) else await item
                if message is not None:
                    await self._send(message)
            except Exception:
                logger.exception("message_lost", lane=self._name)
            self._size -= size
