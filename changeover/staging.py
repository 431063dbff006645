"""The stages of a running proxy: read from memory by every mutation, changed behind a closed fence."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from changeover.clock import clock
from proxy.fence import Fence
from shadow.errors import LogUnavailable
from shadow.ids import new_id
from shadow.log import Log
from shadow.stages import Stage, StageStore, Standing, TransitionRefused
from shadow.tasks import Tasks

AGAIN = 0.2
"""Seconds between two looks at a log that nobody can read."""


class Stages:
    """The stages as the data plane asks for them: from memory, which only a change behind the fence alters."""

    def __init__(self, log: Log, store: StageStore, fence: Fence, *, drain: float) -> None:
        self._log = log
        self._store = store
        self._fence = fence
        self._tasks = Tasks()
        self._drain = drain
        self._standing = {phase: store.standing(phase) for phase in store.phases}

    def stage_of(self, phase: str) -> tuple[Stage, int]:
        """Return the stage and the stage epoch of a phase."""
        standing = self._standing[phase]
        return standing.stage, standing.epoch

    def standings(self) -> list[Standing]:
        """Return where all phases stand."""
        return list(self._standing.values())

    async def move(self, phase: str, stage: str, *, reason: str, actor: str | None) -> tuple[Standing, Standing]:
        """Close the phase's fence, let it drain, change the stage, open it; returns the standings before and after.

        Raises `FenceBusy` when the drain takes too long, `TransitionRefused` for a step that there is not, and
        LogUnavailable. While nobody can know whether the log has the change, the fence stays closed: a mutation let
        in then might be handled under a stage that is over.
        """
        told: asyncio.Future[tuple[Standing, Standing]] = asyncio.get_running_loop().create_future()
        moving = self._move(phase, parse_stage(phase, stage), reason, actor)
        self._tasks.spawn(_see_through(moving, told), name="stage_change")
        return await told

    async def _move(self, phase: str, wanted: Stage, reason: str, actor: str | None) -> tuple[Standing, Standing]:
        async with self._fence.closed(phase, timeout=self._drain):
            before = self._store.standing(phase)
            now = clock()
            try:
                after = await self._store.change(
                    phase, wanted, epoch=before.epoch, now=now, id=new_id(now), actor=actor, reason=reason
                )
            except LogUnavailable as error:
                if not error.unknown:
                    raise
                await self._log_known()
                after = self._store.standing(phase)
                if after.epoch == before.epoch:
                    raise
            self._standing[phase] = after
        return before, after

    async def _log_known(self) -> None:
        """Return when it can be read what the log has: it has told of everything, or of nothing more, by then."""
        while True:
            try:
                await self._log.append([])
                return
            except LogUnavailable:
                await asyncio.sleep(AGAIN)


async def _see_through(
    moving: Coroutine[Any, Any, tuple[Standing, Standing]], told: asyncio.Future[tuple[Standing, Standing]]
) -> None:
    """Carry a change to its end and tell whoever asked for it, who may have gone away meanwhile."""
    try:
        moved = await moving
    except Exception as error:  # noqa: BLE001 - it is told, not lost: most are refusals with a sentence of their own
        if not told.cancelled():
            told.set_exception(error)
    else:
        if not told.cancelled():
            told.set_result(moved)


def parse_stage(phase: str, text: str) -> Stage:
    """Return the stage called `text`; raises `TransitionRefused`."""
    try:
        return Stage(text)
    except ValueError:
        names = ", ".join(stage.value for stage in Stage)
        raise TransitionRefused(f"phase {phase} cannot go to {text!r}: the stages are {names}") from None
