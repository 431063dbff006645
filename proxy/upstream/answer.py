"""A legacy's answer: its head, and its body as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from proxy.framing import Pairs
from proxy.upstream.errors import Lost

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class Source(Protocol):
    """Where an answer comes from: the connection that it arrives on."""

    def set_reading(self, reading: bool) -> None:
        """Stop taking bytes from the legacy, or go on."""

    def abandon(self) -> None:
        """Break the answer off."""


class Answer:
    """The head of an answer, with the body to be read once: `whole` at once, or piece by piece.

    Iterate over it for the pieces as the legacy sent them, or `await read()`. An error in the middle is raised as
    `Lost`. While nobody reads, no more than HIGH_WATER bytes are kept and the legacy is made to wait. Whoever
    stops before the end must `close()`.
    """

    trailers: Sequence[tuple[bytes, bytes]] = ()
    """Fields that came after the body; there once the body is complete."""
    ended = False
    """Whether all has arrived (or will never)."""
    paused = False
    """Whether the legacy is made to wait because nobody reads."""

    _size = 0
    _error: Lost | None = None
    _waiter: asyncio.Future[None] | None = None

    def __init__(self, status: int, reason: bytes, headers: Pairs, length: int, source: Source) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        """End-to-end headers, in the legacy's order and letter case; hop-by-hop ones are gone."""
        self.length = length
        """The body's length in bytes, or framing.CHUNKED or framing.UNTIL_CLOSE."""
        self._pieces: deque[bytes] = deque()
        self._source = source

    @property
    def whole(self) -> bytes | None:
        """The complete body when it is all here and nothing of it was read yet, else None."""
        if not self.ended or self._error is not None:
            return None
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces)

    async def read(self) -> bytes:
        """Wait for the whole rest of the body; raises `Lost` when it is cut short."""
        return b"".join([piece async for piece in self])

    async def arrived(self) -> bytes:
        """Wait for the next piece and return it with all that has come after it; b"" at the end. Raises `Lost`."""
        pieces: list[bytes] = []
        async for piece in self:
            pieces.append(piece)
            if not self._pieces:
                break
        return b"".join(pieces)

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._size -= len(piece)
        if self.paused and not self.ended and self._size <= LOW_WATER:
            self.paused = False
            self._source.set_reading(True)
        return piece

    def close(self) -> None:
        """Give up the rest of the body; does nothing when all has arrived."""
        if not self.ended:
            self._source.abandon()

    # Called by the connection.

    def feed(self, piece: bytes) -> None:
        """Take one piece in; asks the connection to stop reading when nobody keeps up."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER and not self.paused:
            self.paused = True
            self._source.set_reading(False)
        if self._waiter is not None:
            self._wake(self._waiter)

    def end(self, error: Lost | None = None) -> None:
        """Take the end in, good or bad."""
        if not self.ended:
            self.ended = True
            self._error = error
            if self._waiter is not None:
                self._wake(self._waiter)

    def _wake(self, waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)
