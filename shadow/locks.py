"""Locks by entity: while a mutation is under way nobody else touches what it changes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from shadow.events import EntityKey


class EntityLocks:
    """One lock a key, made when wanted and gone when free.

    Several keys are taken in sorted order, so that two holders never wait for each other. Who came first to a
    key gets it first.
    """

    def __init__(self) -> None:
        self._waiting: dict[EntityKey, deque[asyncio.Future[None]] | None] = {}
        """The keys that are held, each with those who wait for it; a queue is made when somebody does."""

    def __len__(self) -> int:
        """Return how many keys are held."""
        return len(self._waiting)

    def held(self, key: EntityKey) -> bool:
        """Tell whether somebody holds `key`."""
        return key in self._waiting

    @asynccontextmanager
    async def hold(self, keys: Iterable[EntityKey]) -> AsyncIterator[None]:
        """Hold all `keys` (each once, however often it is named) for the length of the block."""
        taken = await self.acquire(keys)
        try:
            yield
        finally:
            self.release(taken)

    async def acquire(self, keys: Iterable[EntityKey]) -> tuple[EntityKey, ...]:
        """Take the locks of all `keys` and return what `release` takes; all or none when cancelled."""
        taken: list[EntityKey] = []
        try:
            for key in sorted(set(keys)):
                await self._take(key)
                taken.append(key)
        except BaseException:
            self.release(taken)
            raise
        return tuple(taken)

    def take_free(self, keys: Sequence[EntityKey]) -> bool:
        """Take the locks of all `keys` (no key twice) if nobody holds any of them; tells whether it did."""
        waiting = self._waiting
        for key in keys:
            if key in waiting:
                return False
        for key in keys:
            waiting[key] = None
        return True

    def release(self, taken: Sequence[EntityKey]) -> None:
        """Free what `acquire` returned."""
        for key in reversed(taken):
            self._free(key)

    async def _take(self, key: EntityKey) -> None:
        if key not in self._waiting:
            self._waiting[key] = None
            return
        turn = asyncio.get_running_loop().create_future()
        queue = self._waiting[key]
        if queue is None:
            queue = self._waiting[key] = deque()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was handed to us in the same moment
                self._free(key)
            raise

    def _free(self, key: EntityKey) -> None:
        queue = self._waiting[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]
