"""How fast the legacy may be read: its users come first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`rate` is in requests a second (None: as fast as the answers come), `concurrency` in requests at a time."""

    rate: float | None = None
    concurrency: int = 4


def pause(failures: int, retry_after: str | None = None) -> float:
    """Return the seconds to leave the legacy alone after so many failures in a row (counted from 1).

    Doubles from half a second to half a minute; a `Retry-After` in seconds is obeyed when it asks for more.
    """
    doubled = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1))
    asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
    return max(doubled, min(asked, 10 * LONGEST_PAUSE))


class Pace:
    """A gate in front of every request: so many at a time, so many a second, none while the legacy is left alone.

    `clock` counts seconds and never goes back; `sleep` waits for that many.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gap = 1.0 / limits.rate if limits.rate else 0.0
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0
        self.requests = 0
        """How many turns were taken so far."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold one slot, entered when the rate allows."""
        async with self._slots:
            while (wait := self._free_at - self._clock()) > 0:
                await self._sleep(wait)
            self._free_at = self._clock() + self._gap
            self.requests += 1
            yield

    def leave_alone(self, seconds: float) -> None:
        """Let nobody in for so long; those inside finish."""
        self._free_at = max(self._free_at, self._clock() + seconds)
