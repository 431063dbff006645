"""Creates under way whose key only their answer will tell.

Nobody can lock an entity that has no key yet. But whoever changes it must have seen it, so the create that made it
began earlier: a call for a key that the log does not know waits until every create of that kind that began before it
has its event, or is known to have none. So the event of a create always comes before the events of what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Creations:
    """The creates under way, by kind of entity."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, asyncio.Future[None]]] = {}
        self._next = 0

    def begin(self, kinds: Iterable[str]) -> Creation:
        """Say that a create of these kinds begins; the caller must end it."""
        self._next += 1
        creation = Creation(self, self._next, frozenset(kinds))
        for kind in creation.kinds:
            self._open.setdefault(kind, {})[creation.number] = asyncio.get_running_loop().create_future()
        return creation

    def under_way(self, kind: str) -> frozenset[int]:
        """Return the numbers of the creates of `kind` that have not ended."""
        return frozenset(self._open.get(kind, ()))

    async def ended(self, kind: str, *, besides: Iterable[int] = ()) -> None:
        """Wait until every create of `kind` that is under way now has ended, `besides` those of these numbers."""
        left_out = set(besides)
        waiting = [future for number, future in self._open.get(kind, {}).items() if number not in left_out]
        if waiting:
            await asyncio.wait(waiting)

    def _end(self, creation: Creation) -> None:
        for kind in creation.kinds:
            future = self._open[kind].pop(creation.number, None)
            if not self._open[kind]:
                del self._open[kind]
            if future is not None and not future.done():
                future.set_result(None)


class Creation:
    """One create under way."""

    __slots__ = ("_creations", "_over", "kinds", "number")

    def __init__(self, creations: Creations, number: int, kinds: frozenset[str]) -> None:
        self.number = number
        self.kinds = kinds
        self._creations = creations
        self._over = False

    def end(self) -> None:
        """Say that what it made, if anything, is in the log; may be repeated."""
        if not self._over:
            self._over = True
            self._creations._end(self)
