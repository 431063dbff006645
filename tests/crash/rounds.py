"""One seeded round: clients write, something dies, everybody comes back, and the promises are looked at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from shadow.faults import Point
from shadow.journal import Outcome
from tests.crash.arena import Arena
from tests.crash.checker import Violation, longest, overruns, quarantined, violations
from tests.crash.clients import World, run_client
from tests.crash.evidence import Marks, facts_of
from tests.crash.facts import Facts, Said
from tests.crash.script import Disaster, Script

PHASES = {"provider": "config", "selection": "config", "rule": "rules", "agent": "agents"}

PROMPT = 60.0
"""Seconds within which a round has to come to rest; far more than any promise, so that a failure ends the test."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a round."""

    script: Script
    facts: Facts
    violations: tuple[Violation, ...]
    kills: int
    reached: tuple[Point, ...] = ()
    """The points at which the proxy killed itself."""

    @property
    def acknowledged(self) -> int:
        """How many mutations the clients heard of as done."""
        return sum(1 for said in self.facts.said if said.acknowledged)

    @property
    def overruns(self) -> int:
        """How many changes the legacy made after the time that the contract gives it."""
        return len(overruns(self.facts))

    @property
    def quarantined(self) -> int:
        """How many doubts the contract gives no way to resolve."""
        return len(quarantined(self.facts))

    @property
    def observed(self) -> int:
        """How many calls are recorded as the state that was found after them."""
        return sum(1 for entry in self.facts.entries if entry.outcome is Outcome.OBSERVED)

    @property
    def longest(self) -> int:
        """How long a call was in doubt at most, in milliseconds."""
        return longest(self.facts)


async def play(arena: Arena, script: Script, marks: Marks) -> Result:
    """Play one round to its end and check it."""
    kills, reached = arena.tally.kills, len(arena.tally.reached)
    await arena.arm(script.points)
    arena.down, arena.legacy_kills = 0.0, 0
    arena.offs.clear()
    arena.rounds += 1  # the same script may be played again, and asks for something else then
    world = World(arena.url, f"s{script.seed}r{arena.rounds}", arena.serving, arena.make_secret)
    async with asyncio.TaskGroup() as group:
        for number, asks in enumerate(script.clients):
            group.create_task(run_client(world, number, asks))
        for disaster in script.disasters:
            group.create_task(strike(arena, disaster, PHASES[script.setting]))
    await arena.quiet(within=PROMPT)
    said = [_fenced(arena, one) for one in world.said.values()]
    arena.said |= {one.token: one for one in said}
    facts = await asyncio.to_thread(facts_of, arena, said, after=marks)
    broken = tuple(violations(facts))
    return Result(script, facts, broken, arena.tally.kills - kills, tuple(arena.tally.reached[reached:]))


async def strike(arena: Arena, disaster: Disaster, phase: str) -> None:
    """Let one disaster happen."""
    await asyncio.sleep(disaster.after)
    match disaster.kind:
        case "kill-proxy":
            await arena.kill_proxy()
        case "kill-legacy":
            arena.kill_legacy()
        case "freeze-legacy":
            await arena.freeze_legacy(disaster.seconds)
        case "full-disk":
            await arena.fill_disk(disaster.seconds)
        case "flip-stage":
            await arena.flip_stage(phase, disaster.seconds)
        case _:
            raise AssertionError(disaster)


def _fenced(arena: Arena, said: Said) -> Said:
    """Note of a call whether its phase may have been off while it was under way."""
    if not arena.offs or said.procedure not in {"rules.toggle", "agents.select"}:
        return said
    return replace(said, mirrored=all(said.heard < began or ended < said.sent for began, ended in arena.offs))
