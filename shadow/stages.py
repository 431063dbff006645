"""Where each phase stands, as a table and as events.

The stage of a phase is the state of an entity that only this module writes: a change is an event on
`app:cutover`, appended on the condition that the phase is still where the caller saw it. So a change is atomic,
durable, ordered with everything else in the log, and part of its history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shadow.errors import LogError, PositionConflict
from shadow.events import Draft, Effect, EntityKey, Event
from shadow.log import Log
from shadow.reader import Reader
from shadow.state import Fields

CHANNEL = "app:cutover"
ENTITY = "@stage"
"""No contract can name an entity so."""


class Stage(StrEnum):
    """How far a phase has moved from the legacy to the log."""

    OFF = "off"
    """The legacy alone."""
    DUALWRITE = "dualwrite"
    """The legacy decides; the log is written too."""
    SHADOW = "shadow"
    """The legacy decides; what the log would have answered is compared."""
    LIVE = "live"
    """The log decides; the follower writes to the legacy; reads are compared."""
    RAMPDOWN = "rampdown"
    """The log decides; the follower still writes to the legacy."""
    COMPLETE = "complete"
    """The log alone."""


class Origin(StrEnum):
    """Which side of the cutover."""

    LEGACY = "legacy"
    LOG = "log"


@dataclass(frozen=True, slots=True)
class Duties:
    """What a stage asks for: who decides, who is written too, who answers reads, whether both are compared."""

    authority: Origin
    also: Origin | None
    reads: Origin
    compared: bool
    available: bool
    """Whether this version can do it."""


DUTIES: dict[Stage, Duties] = {
    Stage.OFF: Duties(Origin.LEGACY, None, Origin.LEGACY, compared=False, available=True),
    Stage.DUALWRITE: Duties(Origin.LEGACY, Origin.LOG, Origin.LEGACY, compared=False, available=True),
    Stage.SHADOW: Duties(Origin.LEGACY, Origin.LOG, Origin.LEGACY, compared=True, available=False),
    Stage.LIVE: Duties(Origin.LOG, Origin.LEGACY, Origin.LOG, compared=True, available=False),
    Stage.RAMPDOWN: Duties(Origin.LOG, Origin.LEGACY, Origin.LOG, compared=False, available=False),
    Stage.COMPLETE: Duties(Origin.LOG, None, Origin.LOG, compared=False, available=False),
}

ORDER = tuple(Stage)
"""The way of a phase; each step leads to the next stage or back to the one before."""


class TransitionRefused(LogError):
    """A phase cannot go from its stage to the one asked for."""


class StageMoved(LogError):
    """Somebody changed the stage of the phase meanwhile."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a phase stands; `epoch` counts its changes, `since` is when the last one was made (0: never)."""

    phase: str
    stage: Stage
    epoch: int
    since: int = 0
    actor: str | None = None
    reason: str = ""


def transition(phase: str, current: Stage, wanted: Stage) -> None:
    """Raise TransitionRefused, with what to do instead, unless a phase may go from `current` to `wanted`."""
    if wanted is current:
        raise TransitionRefused(f"phase {phase} is at {current.value} already")
    here = ORDER.index(current)
    steps = [ORDER[place] for place in (here - 1, here + 1) if 0 <= place < len(ORDER)]
    if wanted not in steps:
        ways = " or ".join(step.value for step in steps)
        raise TransitionRefused(f"phase {phase} is at {current.value}; the next step is {ways}, not {wanted.value}")
    if not DUTIES[wanted].available:
        raise TransitionRefused(f"phase {phase} cannot go to {wanted.value}: this version ends at dualwrite")


class StageStore:
    """The stages of the contract's phases, over the log that holds them.

    A phase that was never changed stands at `initial`, with epoch 0.
    """

    def __init__(self, log: Reader, phases: Sequence[str], *, initial: Stage = Stage.OFF) -> None:
        self._log = log
        self._initial = initial
        self.phases = tuple(phases)

    def standing(self, phase: str) -> Standing:
        """Return where a phase stands by what is committed."""
        return self._read(phase)[0]

    def stage_of(self, phase: str) -> tuple[Stage, int]:
        """Return the stage and the stage epoch of a phase."""
        standing = self.standing(phase)
        return standing.stage, standing.epoch

    def standings(self) -> list[Standing]:
        """Return where all phases stand, in the contract's order."""
        return [self.standing(phase) for phase in self.phases]

    async def change(
        self, phase: str, wanted: Stage, *, epoch: int, now: int, id: str, actor: str | None, reason: str
    ) -> Standing:
        """Move a phase on or back and return where it stands then, when that is durable.

        Raises StageMoved unless the phase is still at `epoch`, TransitionRefused for a step that there is not.
        Needs a log that this process writes.
        """
        if phase not in self.phases:
            raise TransitionRefused(f"the contract has no phase {phase!r}; it has {', '.join(self.phases) or 'none'}")
        if not isinstance(self._log, Log):
            raise TransitionRefused("this log is open for reading only")
        current, position = self._read(phase)
        if current.epoch != epoch:
            raise StageMoved(_moved(current, epoch))
        transition(phase, current.stage, wanted)
        changed = Standing(phase, wanted, epoch + 1, now, actor, reason)
        try:
            await self._log.append([_draft(current, changed, id)], expected={_key(phase): position})
        except PositionConflict as error:
            raise StageMoved(_moved(self.standing(phase), epoch)) from error
        return changed

    def _read(self, phase: str) -> tuple[Standing, int]:
        state = self._log.state(_key(phase))
        if state is None or state.fields is None:
            return Standing(phase, self._initial, 0), 0 if state is None else state.position
        return _standing(phase, state.fields), state.position


def stages_in(log: Reader) -> list[Standing]:
    """Return where every phase stands that was ever moved, by the log alone."""
    page = log.states(ENTITY, None, 1000)
    return [_standing(key.key, state.fields) for key, state in page if state.fields is not None]


def changes(log: Reader, phase: str) -> list[Event]:
    """Return the stage changes of a phase, oldest first."""
    return log.history(_key(phase))


def _key(phase: str) -> EntityKey:
    return EntityKey(ENTITY, phase)


def _standing(phase: str, fields: Fields) -> Standing:
    return Standing(phase, Stage(fields["stage"]), fields["epoch"], fields["since"], fields["actor"], fields["reason"])


def _moved(current: Standing, epoch: int) -> str:
    return (
        f"phase {current.phase} was changed meanwhile: it is at {current.stage.value}, epoch {current.epoch}, "
        f"not {epoch}; look at it again with `changeover stage status`"
    )


def _draft(before: Standing, after: Standing, id: str) -> Draft:
    fields = {
        "stage": after.stage.value,
        "epoch": after.epoch,
        "since": after.since,
        "actor": after.actor,
        "reason": after.reason,
    }
    return Draft(
        id=id,
        channel=CHANNEL,
        type="stage-changed",
        time=after.since,
        data={"phase": after.phase, "from": before.stage.value, "to": after.stage.value, **fields},
        entity=_key(after.phase),
        effect=Effect.PUT,
        change=fields,
        actor=after.actor,
        cause="stage",
    )
