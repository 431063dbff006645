"""What happens to the proxy and to the legacy behind it, told as events on `app:lifecycle`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from proxy.upstream import Address
from shadow.errors import LogUnavailable
from shadow.events import Draft, EntityKey, Event
from shadow.json import Json
from shadow.tasks import Tasks

CHANNEL = "app:lifecycle"

LOOK = 2.0
"""Seconds between two looks at the legacy."""

PATIENCE = 2.0
MISSES = 2
"""Looks in vain after which the legacy counts as down."""

logger = structlog.get_logger(__name__)


class Appender(Protocol):
    """What the lifecycle needs of the log."""

    async def append(
        self, drafts: Sequence[Draft], *, expected: Mapping[EntityKey, int] | None = None
    ) -> tuple[Event, ...]:
        """Append events; raises LogUnavailable."""


class Lifecycle:
    """Tells of one running proxy."""

    def __init__(
        self,
        log: Appender,
        legacy: Address,
        *,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        on_up: Callable[[], Awaitable[None]],
        look: float = LOOK,
    ) -> None:
        """`on_up` is called each time that the legacy is there again."""
        self._log = log
        self._legacy = legacy
        self._clock = clock
        self._new_id = new_id
        self._on_up = on_up
        self._look = look
        self._tasks = Tasks()

    @contextlib.asynccontextmanager
    async def told(self, facts: Mapping[str, Json]) -> AsyncIterator[None]:
        """Tell that the proxy has started, watch the legacy meanwhile, and tell at the end that the proxy stops."""
        await self._tell("app-started", dict(facts))
        self._tasks.spawn(self._watch(), name="legacy-watch")
        try:
            yield
        finally:
            await self._tasks.cancel()
            await self._tell("app-stopping", {})

    async def _watch(self) -> None:
        misses, down = 0, False
        while True:
            misses = 0 if await listens(self._legacy) else misses + 1
            if misses >= MISSES and not down:
                down = True
                await self._tell("legacy-down", {})
            elif misses == 0 and down:
                down = False
                await self._tell("legacy-up", {})
                await self._on_up()
            await asyncio.sleep(self._look)

    async def _tell(self, kind: str, data: dict[str, Json]) -> None:
        draft = Draft(id=self._new_id(), channel=CHANNEL, type=kind, time=self._clock(), data=data, cause="lifecycle")
        try:
            await self._log.append([draft])
        except LogUnavailable as error:
            logger.warning("lifecycle_untold", type=kind, reason=str(error))


async def listens(legacy: Address) -> bool:
    """Tell whether somebody accepts connections at the legacy's address; sends nothing."""
    try:
        async with asyncio.timeout(PATIENCE):
            if legacy.path is not None:
                _, writer = await asyncio.open_unix_connection(legacy.path)
            else:
                _, writer = await asyncio.open_connection(legacy.host, legacy.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
