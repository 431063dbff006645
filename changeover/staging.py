"""The stages of a running proxy: read from memory by every mutation, changed behind a closed fence."""

from __future__ import annotations

from changeover.clock import clock
from proxy.fence import Fence
from shadow.ids import new_id
from shadow.stages import Stage, StageStore, Standing, TransitionRefused


class Stages:
    """The stages as the data plane asks for them: from memory, kept right by every commit."""

    def __init__(self, store: StageStore, fence: Fence, *, drain: float) -> None:
        self._store = store
        self._fence = fence
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

        Raises `FenceBusy` when the drain takes too long and `TransitionRefused` for a step that there is not.
        """
        wanted = parse_stage(phase, stage)
        async with self._fence.closed(phase, timeout=self._drain):
            before = self._store.standing(phase)
            now = clock()
            after = await self._store.change(
                phase, wanted, epoch=before.epoch, now=now, id=new_id(now), actor=actor, reason=reason
            )
            self._standing[phase] = after
        return before, after


def parse_stage(phase: str, text: str) -> Stage:
    """Return the stage called `text`; raises `TransitionRefused`."""
    try:
        return Stage(text)
    except ValueError:
        names = ", ".join(stage.value for stage in Stage)
        raise TransitionRefused(f"phase {phase} cannot go to {text!r}: the stages are {names}") from None
