"""A legacy's answer: its head, and its body as it arrives."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from proxy.framing import Pairs
from proxy.upstream.errors import Lost

HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024


class Answer:
    """The head of an answer, with the body to be read once: `whole` at once, or piece by piece.

    Iterate over it for the pieces as the legacy sent them, or `await read()`. An error in the middle is raised as
    `Lost`. While nobody reads, no more than HIGH_WATER bytes are kept and the legacy is made to wait. Whoever
    stops before the end must `close()`.
    """

    __slots__ = (
        "_abandon",
        "_ended",
        "_error",
        "_paused",
        "_pieces",
        "_reading",
        "_size",
        "_waiter",
        "headers",
        "length",
        "reason",
        "status",
        "trailers",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        headers: Pairs,
        length: int,
        *,
        reading: Callable[[bool], None],
        abandon: Callable[[], None],
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        """End-to-end headers, in the legacy's order and letter case; hop-by-hop ones are gone."""
        self.length = length
        """The body's length in bytes, or framing.CHUNKED or framing.UNTIL_CLOSE."""
        self.trailers: Pairs = []
        """Fields that came after the body; complete when the body is."""
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._paused = False
        self._error: Lost | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reading = reading
        self._abandon = abandon

    @property
    def whole(self) -> bytes | None:
        """The complete body when it is all here and nothing of it was read yet, else None."""
        if not self._ended or self._error is not None:
            return None
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces)

    @property
    def ended(self) -> bool:
        """Whether all has arrived (or will never)."""
        return self._ended

    @property
    def paused(self) -> bool:
        """Whether the legacy is made to wait because nobody reads."""
        return self._paused

    async def read(self) -> bytes:
        """Wait for the whole rest of the body; raises `Lost` when it is cut short."""
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._ended:
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
        if self._paused and self._size <= LOW_WATER:
            self._paused = False
            self._reading(True)
        return piece

    def close(self) -> None:
        """Give up the rest of the body; does nothing when all has arrived."""
        if not self._ended:
            self._abandon()

    # Called by the connection.

    def feed(self, piece: bytes) -> None:
        """Take one piece in; asks the connection to stop reading when nobody keeps up."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._reading(False)
        self._wake()

    def end(self, error: Lost | None = None) -> None:
        """Take the end in, good or bad."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
