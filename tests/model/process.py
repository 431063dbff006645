"""The proxy as a process: its log's writer, the fence, the crash and the restart."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto

from shadow.batch import Append, Settle
from shadow.errors import LogUnavailable, Trouble
from shadow.events import Draft, Effect, EntityKey
from shadow.journal import UNSETTLED, Intent, Outcome, Settlement
from shadow.stages import CHANNEL, ENTITY, Stage, transition
from tests.model import requests, resolver
from tests.model.database import Database, Result, write
from tests.model.notes import CONTRACT, PHASE
from tests.model.world import At, Doubt, Flaw, Making, Owner, Proxy, Turning, World

STAGE = EntityKey(ENTITY, PHASE)


class Fate(Enum):
    """What may become of a transaction."""

    WRITTEN = auto()
    REFUSED = auto()
    """The database does not take it, and says so."""
    UNHEARD = auto()
    """It is written, and the database goes away before it says so."""
    LOST = auto()
    """It is not written, and the database goes away before it says so."""


def commit(world: World, count: int, fate: Fate) -> World:
    """The writer takes what was asked first into one transaction."""
    taken, waiting = world.up.asked[:count], world.up.asked[count:]
    database, results = write(world.database, [command for _, command in taken])
    if fate is not Fate.WRITTEN:
        unknown = fate is not Fate.REFUSED
        results = tuple(LogUnavailable(Trouble.GONE, "the database is away", unknown=unknown) for _ in taken)
    if fate in {Fate.REFUSED, Fate.LOST}:
        database = world.database
    told = [(owner, result) for (owner, _), result in zip(taken, results, strict=True)]
    return replace(world, database=database).having(asked=waiting, reports=(*world.up.reports, *told))


def deliver(world: World) -> World:
    """Who asked first hears what it came to."""
    (owner, result), *others = world.up.reports
    return _heard(world.having(reports=tuple(others)), owner, result)


def _heard(world: World, owner: Owner, result: Result) -> World:
    match owner:
        case "request", number:
            request = world.up.requests[number]
            if request.at is At.BEGINNING:
                return requests.begun(world, request, result)
            hears = requests.settled if request.at is At.SETTLING else requests.corrected
            return hears(world, request, result)
        case "doubt", intent:
            return resolver.concluded(world, world.up.doubts[intent], result)
        case "refused", number:
            failed = isinstance(result, LogUnavailable)
            return world.having(refused=world.up.refused | {number}) if failed else world
    return _turned(world, result)


# --- the fence ---------------------------------------------------------------------------------------------------


def close_fence(world: World) -> World:
    """Somebody wants the phase to change its stage: nobody else is let in."""
    return world.having(turning=Turning.CLOSED)


def may_turn(world: World) -> bool:
    """Tell whether the stage may be changed: whoever was inside has left."""
    return world.up.turning is Turning.CLOSED and (not world.up.inside() or Flaw.NO_FENCE in world.flaws)


def turn(world: World) -> World:
    """The log is asked to take the change."""
    stage, epoch = standing(world.database)
    wanted = Stage.DUALWRITE if stage is Stage.OFF else Stage.OFF
    transition(PHASE, stage, wanted)
    change = {"stage": wanted.value, "epoch": epoch + 1}
    draft = Draft(next(world.names()), CHANNEL, "stage-changed", world.now, change, STAGE, Effect.PUT, change)
    append = Append([draft], {STAGE: world.database.position(STAGE)})
    return world.having(turning=Turning.ASKED).ask(("stage", 0), append)


def _turned(world: World, result: Result) -> World:
    """The change is made or not, whichever the log says; the fence opens."""
    stage, epoch = standing(world.database)
    if isinstance(result, LogUnavailable) and Flaw.STAGE_UNHEARD in world.flaws:
        stage, epoch = world.up.stage, world.up.epoch
    return world.having(turning=Turning.NOT, stage=stage, epoch=epoch)


def standing(database: Database) -> tuple[Stage, int]:
    """Return the stage of the phase, and its epoch, by what is durable."""
    fields = database.fields(STAGE)
    return (Stage.DUALWRITE, 0) if fields is None else (Stage(fields["stage"]), fields["epoch"])


# --- the crash ---------------------------------------------------------------------------------------------------


def crash(world: World) -> World:
    """The process dies. The legacy does not, nor does what is on disk."""
    return replace(world, proxy=None)


def restart(world: World) -> World:
    """It is back: what is open is in doubt at once, durably, and everything in doubt is locked before a call comes."""
    left = [intent for intent in world.database.intents.values() if intent.outcome in UNSETTLED]
    if Flaw.NO_RECOVERY in world.flaws:
        left = []
    crashed = [intent.id for intent in left if intent.outcome is Outcome.OPEN]
    settle = Settle([Settlement(id, Outcome.IN_DOUBT, world.now, detail="crash") for id in crashed])
    database, _ = write(world.database, [settle] if crashed else [])
    doubts = {intent.id: _recovered(intent, number) for number, intent in enumerate(left)}
    stage, epoch = standing(database)
    return replace(world, database=database, proxy=Proxy(stage, epoch, doubts=doubts, creates=len(left)))


def _recovered(intent: Intent, number: int) -> Doubt:
    rule = CONTRACT.mutations[intent.procedure]
    made = rule.unnamed(intent.input, intent.received)
    making = Making(number, frozenset(event.entity.name for event in made if event.entity)) if made else None
    return Doubt(intent.id, intent.detail or "crash", rule.keys_before(intent.input, intent.received), making)
