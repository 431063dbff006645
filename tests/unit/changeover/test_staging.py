"""A stage is changed behind the closed fence, and the fence opens only when it is known which stage holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from changeover.staging import Stages
from proxy.fence import Fence
from shadow.errors import LogUnavailable, Trouble
from shadow.events import Draft, EntityKey, Event
from shadow.log import Log
from shadow.stages import Stage, StageStore, TransitionRefused


class Unheard(Log):
    """A log that commits, or does not, and cannot say which until it is `back`."""

    commits = True
    back = True

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected: Mapping[EntityKey, int] | None = None,
        unmoved: Mapping[str, int] | None = None,
    ) -> tuple[Event, ...]:
        if self.back:
            return await super().append(drafts, expected=expected, unmoved=unmoved)
        if drafts and self.commits:
            await super().append(drafts, expected=expected, unmoved=unmoved)
        raise LogUnavailable(Trouble.GONE, "nobody knows", unknown=True)


@pytest.fixture(name="log")
async def _log(tmp_path: Path) -> AsyncIterator[Unheard]:
    log = Unheard.open(f"sqlite:///{tmp_path}/log.db")
    assert isinstance(log, Unheard)
    yield log
    await log.close()


def stages_over(log: Log, fence: Fence) -> Stages:
    return Stages(log, StageStore(log, ("notes",)), fence, drain=5)


async def test_a_change_is_seen_by_the_next_mutation(log: Unheard) -> None:
    stages = stages_over(log, Fence())
    before, after = await stages.move("notes", "dualwrite", reason="first phase", actor=None)
    assert (before.stage, after.stage) == (Stage.OFF, Stage.DUALWRITE)
    assert stages.stage_of("notes") == (Stage.DUALWRITE, 1)


@pytest.mark.parametrize("committed", [True, False])
async def test_the_fence_stays_closed_until_it_is_known_which_stage_holds(log: Unheard, *, committed: bool) -> None:
    fence = Fence()
    stages = stages_over(log, fence)
    log.back, log.commits = False, committed
    moving = asyncio.ensure_future(stages.move("notes", "dualwrite", reason="first phase", actor=None))  # noqa: TID251
    await asyncio.sleep(0.05)
    entering = asyncio.ensure_future(fence.enter(["notes"]))  # noqa: TID251
    await asyncio.sleep(0.3)
    assert not entering.done()

    log.back = True
    await entering
    if committed:
        await moving
        assert stages.stage_of("notes") == (Stage.DUALWRITE, 1)
    else:
        with pytest.raises(LogUnavailable):
            await moving
        assert stages.stage_of("notes") == (Stage.OFF, 0)


async def test_a_change_is_seen_through_though_nobody_waits_for_it(log: Unheard) -> None:
    fence = Fence()
    stages = stages_over(log, fence)
    inside = await fence.enter(["notes"])
    moving = asyncio.ensure_future(stages.move("notes", "dualwrite", reason="first phase", actor=None))  # noqa: TID251
    await asyncio.sleep(0.05)
    moving.cancel()
    fence.leave(inside)
    await fence.enter(["notes"])
    assert stages.stage_of("notes") == (Stage.DUALWRITE, 1)


async def test_a_stage_that_there_is_not_is_named(log: Unheard) -> None:
    with pytest.raises(TransitionRefused, match="the stages are off, dualwrite"):
        await stages_over(log, Fence()).move("notes", "dual", reason="", actor=None)


async def test_a_refused_change_is_told_and_not_logged_as_a_failure(log: Unheard) -> None:
    with capture_logs() as logged, pytest.raises(TransitionRefused, match="is at off already"):
        await stages_over(log, Fence()).move("notes", "off", reason="", actor=None)
    assert logged == []
