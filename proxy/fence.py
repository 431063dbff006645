"""The fence keeps a phase's stage from changing under a mutation that is on its way (promise G5).

Every mutation enters the fence of its phases and leaves it when it is settled. A stage change closes the fence,
waits until everything inside has left, makes the change, and opens it again: what waited outside meanwhile is
handled wholly under the new stage.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from shadow.errors import Mendable


class FenceBusy(Mendable):
    """What is inside did not leave in time; nothing was changed and the fence is open again."""

    def __init__(self, phase: str, inside: int, seconds: float) -> None:
        super().__init__(
            f"phase {phase!r} still has {inside} mutation(s) in flight after {seconds:g} s; "
            "the stage was not changed, try again when the legacy answers"
        )


class Fence:
    """Counts what is inside each phase and can close a phase until it is empty."""

    def __init__(self) -> None:
        self._inside: Counter[str] = Counter()
        self._closed: dict[str, asyncio.Event] = {}
        self._emptied: dict[str, asyncio.Event] = {}

    def inside(self, phase: str) -> int:
        """Return how many mutations of `phase` are in flight."""
        return self._inside[phase]

    def enter_open(self, phases: Sequence[str]) -> bool:
        """Enter all of `phases` if none of them is closed; tells whether they were entered."""
        if self._closed and not self._closed.keys().isdisjoint(phases):
            return False
        for phase in phases:
            self._inside[phase] += 1
        return True

    def closing(self, phase: str) -> bool:
        """Tell whether `phase` is closed, or is to be as soon as it is empty."""
        return phase in self._closed

    async def enter(self, phases: Iterable[str]) -> tuple[str, ...]:
        """Wait until every one of `phases` is open and enter them all at once; returns what `leave` takes."""
        wanted = tuple(phases)
        while not self.enter_open(wanted):
            await next(self._closed[phase] for phase in wanted if phase in self._closed).wait()
        return wanted

    def leave(self, phases: Iterable[str]) -> None:
        """Leave what `enter` returned."""
        for phase in phases:
            self._inside[phase] -= 1
            if not self._inside[phase] and (emptied := self._emptied.get(phase)):
                emptied.set()

    @asynccontextmanager
    async def closed(self, phase: str, *, timeout: float) -> AsyncIterator[None]:
        """Hold `phase` empty for the length of the block; one closer at a time.

        Raises `FenceBusy` when what is inside does not leave within `timeout` seconds.
        """
        while phase in self._closed:
            await self._closed[phase].wait()
        reopened = self._closed[phase] = asyncio.Event()
        emptied = self._emptied[phase] = asyncio.Event()
        try:
            if self._inside[phase]:
                try:
                    await asyncio.wait_for(emptied.wait(), timeout)
                except TimeoutError:
                    raise FenceBusy(phase, self._inside[phase], timeout) from None
            yield
        finally:
            del self._closed[phase], self._emptied[phase]
            reopened.set()
