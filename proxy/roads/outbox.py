"""What may go to the client, sent in order beside the work that finds out what may go next."""

from __future__ import annotations

import asyncio

from proxy.exchange import Truncated
from proxy.forward import Send
from proxy.upstream import Answer
from shadow.tasks import Tasks


class Outbox:
    """One answer on its way to one client.

    Putting never waits, so a client that reads slowly delays no outcome and holds no lock; who puts a lot waits for
    `room` now and then. The head goes with the first piece.
    """

    def __init__(self, send: Send, answer: Answer) -> None:
        self._send = send
        self._answer = answer
        self._waiting: list[bytes] = []
        self._size = 0
        self._tasks = Tasks()
        self._sending: asyncio.Task[None] | None = None
        self._started = False

    @property
    def started(self) -> bool:
        """Whether the head has gone out, or is about to."""
        return self._started

    def put(self, piece: bytes) -> None:
        """Send a piece as soon as those before it are sent."""
        if not piece:
            return
        self._started = True
        self._waiting.append(piece)
        self._size += len(piece)
        if self._sending is None or self._sending.done():
            self._sending = self._tasks.spawn(self._flush(head=self._sending is None), name="outbox")

    async def room(self, limit: int) -> None:
        """Wait until no more than `limit` bytes are unsent."""
        while self._size > limit and self._sending is not None and not self._sending.done():
            await asyncio.wait((self._sending,))

    async def finish(self) -> None:
        """Send what is left, and the end."""
        await self._flushed()
        if self._sending is None:
            await self._send_head(body_follows=True)
        await self._send({"type": "http.response.body", "body": b"", "trailers": self._answer.trailers})

    async def cut(self, reason: str) -> None:
        """Send what is left and raise `Truncated`, so that the client sees that the answer is not whole."""
        await self._flushed()
        raise Truncated(reason)

    async def _flushed(self) -> None:
        if self._sending is not None:
            await self._sending

    async def _flush(self, *, head: bool) -> None:
        if head:
            await self._send_head(body_follows=True)
        while self._waiting:
            body = b"".join(self._waiting)
            self._waiting.clear()
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            self._size -= len(body)

    async def _send_head(self, *, body_follows: bool) -> None:
        answer = self._answer
        await self._send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "reason": answer.reason,
                "headers": answer.headers,
                "body_follows": body_follows,
            }
        )
