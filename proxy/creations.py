"""Creates under way whose key only their answer will tell.

Nobody can lock an entity that has no key yet. But whoever changes it must have seen it, so the create that made it
began earlier: a call for a key that the log does not know waits until every create of that kind that began before it
has its event, or is known to have none. So the event of a create always comes before the events of what follows.

A create in doubt is *parked*: it has not ended, and those who come later wait for it still; but it is no longer under
way, and who asks what became of another create in doubt must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from shadow.events import EntityKey


class Creations:
    """The creates that have not ended, by kind of entity."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, Creation]] = {}
        self._next = 0

    def begin(self, kinds: Iterable[str]) -> Creation:
        """Say that a create of these kinds begins; the caller must end it."""
        self._next += 1
        creation = Creation(self, self._next, frozenset(kinds))
        for kind in creation.kinds:
            self._open.setdefault(kind, {})[creation.number] = creation
        return creation

    def any(self, keys: Iterable[EntityKey]) -> bool:
        """Tell whether a create of a kind of entity that is among `keys` has not ended."""
        return bool(self._open) and any(key.entity in self._open for key in keys)

    def open(self, kind: str) -> frozenset[int]:
        """Return the numbers of the creates of `kind` that have not ended."""
        return frozenset(self._open.get(kind, ()))

    async def ended(self, kind: str) -> None:
        """Wait until every create of `kind` that is there now has ended."""
        for creation in tuple(self._open.get(kind, {}).values()):
            await creation.over.wait()

    async def parked(self, kind: str) -> None:
        """Wait until every create of `kind` that is there now has ended or is in doubt."""
        for creation in tuple(self._open.get(kind, {}).values()):
            await creation.idle.wait()

    def forget(self, creation: Creation) -> None:
        """Leave a create out that has ended."""
        for kind in creation.kinds:
            if self._open.get(kind, {}).pop(creation.number, None) is not None and not self._open[kind]:
                del self._open[kind]


class Creation:
    """One create that has not ended."""

    __slots__ = ("_creations", "idle", "kinds", "number", "over")

    def __init__(self, creations: Creations, number: int, kinds: frozenset[str]) -> None:
        self.number = number
        self.kinds = kinds
        self.over = asyncio.Event()
        self.idle = asyncio.Event()
        self._creations = creations

    def park(self) -> None:
        """Say that it is in doubt."""
        self.idle.set()

    def end(self) -> None:
        """Say that what it made, if anything, is in the log; may be repeated."""
        self._creations.forget(self)
        self.idle.set()
        self.over.set()
