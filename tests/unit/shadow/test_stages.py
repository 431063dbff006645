"""A phase moves one step at a time, on the condition that nobody moved it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shadow.log import Log
from shadow.stages import (
    CHANNEL,
    DUTIES,
    ORDER,
    Origin,
    Stage,
    StageMoved,
    StageStore,
    Standing,
    TransitionRefused,
    changes,
    stages_in,
    transition,
)


@pytest.fixture(name="log")
async def _log(tmp_path: Path) -> AsyncIterator[Log]:
    log = Log.open(f"sqlite:///{tmp_path}/log.db")
    yield log
    await log.close()


async def move(store: StageStore, wanted: Stage, epoch: int, phase: str = "sessions") -> Standing:
    return await store.change(phase, wanted, epoch=epoch, now=5, id=f"{phase}-{epoch}", actor="ops", reason="because")


@pytest.mark.parametrize("current", ORDER)
def test_a_step_leads_to_the_next_stage_or_back_to_the_one_before(current: Stage) -> None:
    place = ORDER.index(current)
    for wanted in ORDER:
        allowed = abs(ORDER.index(wanted) - place) == 1 and DUTIES[wanted].available
        if allowed:
            transition("sessions", current, wanted)
        else:
            with pytest.raises(TransitionRefused, match="phase sessions"):
                transition("sessions", current, wanted)


def test_the_log_decides_from_live_on() -> None:
    assert [DUTIES[stage].authority for stage in ORDER] == [Origin.LEGACY] * 3 + [Origin.LOG] * 3


async def test_a_change_is_an_event_with_the_next_epoch(log: Log) -> None:
    store = StageStore(log, ["sessions", "config"])
    assert store.standing("sessions") == Standing("sessions", Stage.OFF, 0)
    moved = await move(store, Stage.DUALWRITE, 0)
    assert moved == store.standing("sessions") == Standing("sessions", Stage.DUALWRITE, 1, 5, "ops", "because")
    assert store.stage_of("sessions") == (Stage.DUALWRITE, 1)
    assert store.standings() == [moved, Standing("config", Stage.OFF, 0)]
    assert stages_in(log) == [moved]
    (event,) = changes(log, "sessions")
    assert (event.draft.channel, event.draft.type) == (CHANNEL, "stage-changed")
    assert event.draft.data == {
        "phase": "sessions",
        "from": "off",
        "to": "dualwrite",
        "stage": "dualwrite",
        "epoch": 1,
        "since": 5,
        "actor": "ops",
        "reason": "because",
    }


async def test_a_phase_can_begin_at_another_stage_and_go_back(log: Log) -> None:
    store = StageStore(log, ["sessions"], initial=Stage.DUALWRITE)
    assert store.stage_of("sessions") == (Stage.DUALWRITE, 0)
    await move(store, Stage.OFF, 0)
    assert StageStore(log, ["sessions"], initial=Stage.DUALWRITE).stage_of("sessions") == (Stage.OFF, 1)


async def test_of_two_who_change_it_together_one_is_told_to_look_again(log: Log) -> None:
    store = StageStore(log, ["sessions"])
    both = (
        store.change("sessions", Stage.DUALWRITE, epoch=0, now=5, id=id, actor=None, reason="") for id in ("a", "b")
    )
    results = await asyncio.gather(*both, return_exceptions=True)
    assert [isinstance(result, StageMoved) for result in results] == [False, True]
    assert len(changes(log, "sessions")) == 1
    with pytest.raises(StageMoved, match="stage status"):
        await move(store, Stage.OFF, 0)


async def test_what_cannot_be_done_is_refused_in_words(log: Log, tmp_path: Path) -> None:
    store = StageStore(log, ["sessions"])
    with pytest.raises(TransitionRefused, match="no phase 'session'; it has sessions"):
        await move(store, Stage.DUALWRITE, 0, phase="session")
    with pytest.raises(TransitionRefused, match="the next step is dualwrite, not live"):
        await move(store, Stage.LIVE, 0)
    await move(store, Stage.DUALWRITE, 0)
    with pytest.raises(TransitionRefused, match="this version ends at dualwrite"):
        await move(store, Stage.SHADOW, 1)
    with (
        Log.read_only(f"sqlite:///{tmp_path}/log.db") as reader,
        pytest.raises(TransitionRefused, match="reading only"),
    ):
        await move(StageStore(reader, ["sessions"]), Stage.OFF, 1)
