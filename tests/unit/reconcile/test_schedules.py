"""The protocol of the exact comparison, explored: writers, doubts and faults in thousands of interleavings.

A small world in which every step of the proxy, of the legacy and of the reconciler is one move, and a seed chooses
who moves next. What the reconciler concludes is then held against what really happened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from reconcile.compare import EXACT, Facts, Fields, Match, Mismatch, Retry, Unverified, Verdict, compare, decide
from reconcile.evidence import Moment, OpenIntent, Reading, stirred, surroundings
from shadow import json
from shadow.events import EntityKey

KEYS = ("a", "b", "c", "d")
CREATES = frozenset({"create"})


@dataclass(slots=True)
class Simulation:
    """The legacy, the log and the journal, and which entities somebody tampered with."""

    seed: int
    legacy: dict[str, Fields] = field(default_factory=dict)
    states: dict[str, tuple[Fields | None, int]] = field(default_factory=dict)
    intents: dict[int, OpenIntent] = field(default_factory=dict)
    touched: dict[int, str] = field(default_factory=dict)
    locked: set[str] = field(default_factory=set)
    tampered: set[str] = field(default_factory=set)
    position: int = 0
    last_intent: int = 0
    begun: list[OpenIntent] = field(default_factory=list)
    value: int = 0

    def fresh(self) -> Fields:
        self.value += 1
        return {"v": self.value}

    def event(self, key: str, fields: Fields | None) -> None:
        self.position += 1
        self.states[key] = (fields, self.position)

    def begin(self, procedure: str, key: str | None) -> int:
        self.last_intent += 1
        entity = None if key is None else EntityKey("note", key)
        intent = OpenIntent(self.last_intent, "notes", entity, procedure, in_doubt=False)
        self.intents[intent.id] = intent
        self.begun.append(intent)
        return intent.id

    def moment(self) -> Moment:
        return Moment(self.position, self.last_intent, tuple(self.intents.values()))

    def reading(self, since: Moment) -> Reading:
        named = tuple(intent for intent in self.begun if intent.id > since.last_intent and intent.key)
        states = {
            key: (None if fields is None else json.encode(fields).decode(), position)
            for key, (fields, position) in self.states.items()
        }
        return Reading(self.moment(), states, named)

    def log(self, key: str) -> Fields | None:
        return self.states.get(key, (None, 0))[0]

    def differing(self) -> set[str]:
        return {key for key in KEYS if self.legacy.get(key) != self.log(key)}


Actor = Iterator[None]


def writer(world: Simulation, chance: random.Random, calls: int) -> Actor:
    """A client's mutations through the proxy: one entity at a time under its lock, as the mirror does it."""
    for _ in range(calls):
        key = chance.choice(KEYS)
        # A create has no key before its answer; nobody else can know the key either.
        creating = key not in world.legacy and world.log(key) is None
        while key in world.locked:
            yield
        world.locked.add(key)
        intent = world.begin("create" if creating else "put", None if creating else key)
        yield
        outcome = chance.choice(["applied", "applied", "applied", "rejected", "doubt"])
        fields = world.fresh() if creating or chance.random() < 0.8 else None
        effective = outcome == "applied" or (outcome == "doubt" and chance.random() < 0.5)
        if effective:
            world.legacy.pop(key, None) if fields is None else world.legacy.update({key: fields})
        yield
        if outcome == "doubt":
            old = world.intents[intent]
            world.intents[intent] = OpenIntent(old.id, old.phase, old.key, old.procedure, in_doubt=True)
            for _ in range(chance.randrange(6)):
                yield
        if effective:
            world.event(key, fields)
            world.touched[intent] = key
        del world.intents[intent]
        world.locked.discard(key)
        yield


def vandal(world: Simulation, chance: random.Random, faults: int) -> Actor:
    """Somebody who writes behind the proxy's back, and a log that loses or garbles what it had."""
    for _ in range(faults):
        for _ in range(chance.randrange(8)):
            yield
        key = chance.choice(KEYS)
        world.tampered.add(key)
        match chance.choice(["bypass", "bypass delete", "garble", "lose"]):
            case "bypass":
                world.legacy[key] = world.fresh()
            case "bypass delete":
                world.legacy.pop(key, None)
            case "garble":
                if world.log(key) is not None:
                    world.states[key] = (world.fresh(), world.states[key][1])
            case "lose":
                if key in world.states:
                    world.states[key] = (None, world.states[key][1])
        yield


def judge(
    world: Simulation, key: str, shown: Fields | None, before: Moment, after: Reading, attempt: int, attempts: int
) -> Verdict:
    """Decide as the passes do; the intents without a key have been waited for already."""
    entity = EntityKey("note", key)
    around = surroundings(entity, CREATES, before, after)
    return decide(
        Facts(
            around.before,
            around.after,
            equal=not compare("note", shown, after.fields(key), EXACT, "2026-01-01").differences,
            attempt=attempt,
            attempts=attempts,
            came_and_went=around.came_and_went,
            keyless=tuple(intent for intent in around.keyless if intent in world.intents),
            turned_out=tuple(intent for intent in around.keyless if world.touched.get(intent) == key),
            doubtful=around.doubtful,
        )
    )


def reconciler(world: Simulation, report: Callable[[str, Verdict], None], attempts: int) -> Actor:
    """Compare every key, each with its retries, a step at a time."""
    for key in KEYS:
        for attempt in range(1, attempts + 1):
            before = world.moment()
            yield
            shown = world.legacy.get(key)
            yield
            after = world.reading(before)
            for _ in range(3):  # patience with intents that have no key
                if not surroundings(EntityKey("note", key), CREATES, before, after).keyless:
                    break
                yield
            verdict = judge(world, key, shown, before, after, attempt, attempts)
            quiet = key not in stirred("note", before, after) and after.position(key) <= before.position
            if quiet and shown is not None and shown == after.fields(key):
                assert isinstance(verdict, Match), "what a page proves, the comparison of the key would prove"
            report(key, verdict)
            if not isinstance(verdict, Retry):
                break
            yield


def play(seed: int, *, faults: int) -> tuple[Simulation, list[tuple[str, Verdict]], set[str]]:
    """Let a seed interleave three writers, faults and two reconcilers, and then one reconciler in peace."""
    chance = random.Random(seed)
    world = Simulation(seed)
    said: list[tuple[str, Verdict]] = []
    false_alarms: set[str] = set()

    def report(key: str, verdict: Verdict) -> None:
        said.append((key, verdict))
        if isinstance(verdict, Mismatch) and key not in world.tampered:
            false_alarms.add(key)

    actors: list[Actor] = [writer(world, chance, 6) for _ in range(3)]
    actors += [vandal(world, chance, faults), reconciler(world, report, 3), reconciler(world, report, 3)]
    while actors:
        actor = chance.choice(actors)
        if next(actor, actors) is actors:
            actors.remove(actor)
    assert not world.intents
    said.clear()
    for _ in reconciler(world, report, 1):
        pass
    return world, said, false_alarms


@pytest.mark.parametrize("block", range(4))
def test_every_difference_reported_was_injected_and_every_one_injected_is_reported(block: int) -> None:
    """4,000 schedules with writers, doubts and faults; half of them without any fault at all."""
    exact = drifted = 0
    for seed in range(block * 1000, block * 1000 + 1000):
        world, said, false_alarms = play(seed, faults=seed % 2 * 5)
        assert not false_alarms, f"seed {seed}: {false_alarms} reported, nobody had touched them"
        mismatches = {key for key, verdict in said if isinstance(verdict, Mismatch)}
        matches = {key for key, verdict in said if isinstance(verdict, Match)}
        assert mismatches == world.differing(), f"seed {seed}"
        assert mismatches <= world.tampered, f"seed {seed}"
        assert mismatches | matches == set(KEYS), f"seed {seed}: in peace everything is exact"
        exact += len(said)
        drifted += bool(mismatches)
    assert exact == 4000
    assert drifted > 100, "the faults must leave traces, or the test shows nothing"


def test_the_schedules_reach_every_verdict() -> None:
    """The exploration would prove little if nothing ever got into anybody's way."""
    seen: set[type] = set()
    for seed in range(300):
        chance = random.Random(seed)
        world = Simulation(seed)
        actors: list[Actor] = [writer(world, chance, 6) for _ in range(3)]
        actors += [vandal(world, chance, 2), reconciler(world, lambda _, verdict: seen.add(type(verdict)), 2)]
        while actors:
            actor = chance.choice(actors)
            if next(actor, actors) is actors:
                actors.remove(actor)
    assert seen == {Match, Mismatch, Retry, Unverified}


@pytest.mark.parametrize("blinded", ["open_intents", "position", "keyless"])
def test_each_part_of_the_protocol_is_needed(blinded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one check out, and the schedules find the false alarm that it prevents."""
    real = decide

    def careless(facts: Facts) -> Verdict:
        from dataclasses import replace

        match blinded:
            case "open_intents":
                quiet = replace(facts.before, open_intents=()), replace(facts.after, open_intents=())
                facts = replace(facts, before=quiet[0], after=quiet[1])
            case "position":
                facts = replace(facts, before=facts.after)
            case "keyless":
                facts = replace(facts, keyless=(), turned_out=())
        return real(facts)

    monkeypatch.setattr(f"{__name__}.decide", careless)
    assert any(play(seed, faults=0)[2] for seed in range(2000))
