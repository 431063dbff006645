"""Background tasks that are neither collected early nor fail in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class Tasks:
    """A set of running tasks, kept alive until they end.

    A task outlives whoever spawned it: that is how a mutation goes on after its client has gone.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Start `work`; an error that nobody awaits is logged under `name`."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def drain(self, timeout: float) -> int:
        """Wait up to `timeout` seconds for all tasks; returns how many are still running."""
        if self._running:
            await asyncio.wait(self._running, timeout=timeout)
        return len(self._running)

    async def cancel(self) -> None:
        """Cancel what is running and wait for it to end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task_failed", task=task.get_name(), error=type(error).__name__, exc_info=error)
