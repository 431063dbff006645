"""Repair: first a plan that says what would be done and why, then, only if told to, the deed, and then another look.

Where the legacy decides, the log gets a correction event that says what the legacy has. Where the log decides, the
legacy gets the mutations that lead it there; they are found by trial: a call is taken when the contract predicts that
it brings the legacy nearer to the log, and nothing is sent that leads anywhere else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from reconcile.answers import Answered
from reconcile.append import Appender, MovedError
from reconcile.compare import Fields, Rules, differences, kept, parts, render
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy
from reconcile.passes import Difference, Passes, Plan
from reconcile.record import CHANNEL as RECORDS
from shadow.contract import Contract, ExpressionError, Rule, Unpredictable
from shadow.events import Draft, Effect, EntityKey, Event
from shadow.json import Json
from shadow.secrets import is_sealed
from shadow.stages import Origin

REPAIRED: Final = "repair-finished"
CORRECTED: Final = "entity-observed"
"""The same type as that of a correction after a doubt: subscribers need to know only one."""
STEPS: Final = 8
"""How many calls one entity may take."""


@dataclass(frozen=True, slots=True)
class Correction:
    """An event that would be appended, if the entity is still at `position`."""

    key: EntityKey
    position: int
    fields: Fields | None
    told: Fields | None
    """The fields without what is secret, for subscribers."""
    channel: str
    why: str

    def __str__(self) -> str:
        said = "delete it" if self.fields is None else f"put what the legacy has ({', '.join(sorted(self.fields))})"
        return f"{self.key.entity} {self.key.key}: append to {self.channel}: {said}; {self.why}"


@dataclass(frozen=True, slots=True)
class Call:
    """A mutation that would be sent to the legacy; `names` are the members of its input, for people."""

    procedure: str
    input: Json


@dataclass(frozen=True, slots=True)
class Calls:
    """Mutations that bring one entity of the legacy to what the log says."""

    key: EntityKey
    calls: tuple[Call, ...]
    why: str

    def __str__(self) -> str:
        said = ", then ".join(f"{call.procedure}({', '.join(sorted(call.input))})" for call in self.calls)
        return f"{self.key.entity} {self.key.key}: send {said}; {self.why}"


@dataclass(frozen=True, slots=True)
class Beyond:
    """An entity that cannot be repaired this way."""

    key: EntityKey
    why: str

    def __str__(self) -> str:
        return f"{self.key.entity} {self.key.key}: not repaired: {self.why}"


Step = Correction | Calls | Beyond


# -- planning ----------------------------------------------------------------------------------------------------


def correction(
    contract: Contract, plan: Plan, found: Difference, log: Fields | None, events: Sequence[Event], now: int
) -> Correction:
    """Plan what the log gets when the legacy is right. `events` are the entity's, oldest first; pure.

    Fields that do not differ keep what the log has: a sealed secret is not replaced by the mask that the legacy shows.
    """
    key = EntityKey(plan.kind.name, found.key)
    fields: Fields | None = None
    if found.legacy is not None:
        # With a key the event is sealed before it goes anywhere; without one a secret must not be in it.
        shown = found.legacy if plan.rules.keyring is not None else kept(found.legacy, plan.rules)
        differing = {one.path[0] for one in found.comparison.differences if one.path}
        same = {name: value for name, value in (log or {}).items() if name not in differing}
        fields = {**shown, **same}
    secret = {pattern.partition(".")[0] for pattern in plan.rules.secret}
    told = None if fields is None else {name: value for name, value in fields.items() if name not in secret}
    channel = channel_of(contract, key, told, events, now)
    return Correction(key, found.position, fields, told, channel, _why(found))


def channel_of(contract: Contract, key: EntityKey, fields: Fields | None, events: Sequence[Event], now: int) -> str:
    """Return the channel on which subscribers hear of this entity."""
    for event in reversed(events):
        if not event.draft.channel.startswith("app:"):
            return event.draft.channel
    values = {"key": key.key, "output": {**(fields or {}), "id": key.key}, "state": fields, "now": now}
    for rule in contract.mutations.values():
        for event_rule in rule.events:
            ours = event_rule.entity is not None and event_rule.entity.name == key.entity
            if not ours or not event_rule.channel.variables <= values.keys():
                continue
            with suppress(ExpressionError):
                channel = event_rule.value(event_rule.channel, values, "channel")
                if isinstance(channel, str):
                    return channel
    return f"{key.entity}:{key.key}"


def calls(contract: Contract, plan: Plan, found: Difference, log: Fields | None, now: int) -> Calls | Beyond:
    """Plan what the legacy gets when the log is right; pure."""
    key = EntityKey(plan.kind.name, found.key)
    if _touches_secret(found, plan.rules):
        return Beyond(key, "a secret differs, and secrets are not sent anywhere")
    state, chosen = found.legacy, list[Call]()
    while _distance(state, log, plan.rules):
        best = min(_candidates(contract, plan, key, state, log, now), key=lambda one: one[0], default=None)
        if best is None or best[0] >= _distance(state, log, plan.rules) or len(chosen) >= STEPS:
            return Beyond(key, "no mutation of the contract is known to lead there")
        _, call, state = best
        chosen.append(call)
    return Calls(key, tuple(chosen), _why(found))


def _candidates(
    contract: Contract, plan: Plan, key: EntityKey, state: Fields | None, wanted: Fields | None, now: int
) -> list[tuple[int, Call, Fields | None]]:
    """Return every call that the contract can predict, with how far from the log it would leave the legacy."""
    found = []
    for rule in contract.mutations.values():
        if rule.phase != plan.phase:
            continue
        wish = _input(rule, key, wanted or {})
        if wish is None or any(is_sealed(part) for part in parts(wish)):
            continue
        predicted = rule.predict(wish, state, now, key)
        if isinstance(predicted, Unpredictable):
            continue
        after = None if predicted is None else plan.comparable(predicted)
        found.append((_distance(after, wanted, plan.rules), Call(rule.procedure, wish), after))
    return found


def _input(rule: Rule, key: EntityKey, wanted: Fields) -> dict[str, Json] | None:
    """Guess a call's input: the key where the rule reads it, and each wanted field that the rule reads by its name."""
    keyed = [event for event in rule.events if event.entity is not None and event.entity.name == key.entity]
    if not keyed or len(keyed) != len(rule.events):
        return None
    source = keyed[0].key.source.strip() if keyed[0].key is not None else ""
    fixed = re.fullmatch(r"'([^']*)'", source)
    path = re.fullmatch(r"input\.(\w+)", source)
    if path is None and (fixed is None or fixed[1] != key.key):
        return None
    texts = [part.source for event in keyed for part in (event.data, event.change) if part is not None]
    read = {name for text in texts for name in re.findall(r"\binput\.\??(\w+)", text)}
    named = {path[1]: key.key} if path is not None else {}
    plain = {name: value for name, value in wanted.items() if name in read and name not in named}
    whole = {name: dict(wanted) for name in read if name not in wanted and name not in named}
    return {**plain, **whole, **named}


def _distance(state: Fields | None, wanted: Fields | None, rules: Rules) -> int:
    if state is None or wanted is None:
        return 0 if state is wanted else 1000
    return len(differences(state, wanted, rules))


def _touches_secret(found: Difference, rules: Rules) -> bool:
    return any(one.path and rules.mask(one.path) is not None for one in found.comparison.differences)


def _why(found: Difference) -> str:
    paths = ", ".join(render(one.path) for one in found.comparison.differences[:4])
    return f"{paths} differ at position {found.position}"


# -- doing -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Outcome:
    """What became of a plan."""

    done: int = 0
    moved: int = 0
    """Changed meanwhile; the next run looks at them anew."""
    refused: int = 0
    remaining: int = 0
    """Still different after everything was done."""


class Repair:
    """Carries out plans. `seal` seals what is secret in an event; `new_id` and `clock` (milliseconds) make events."""

    def __init__(
        self,
        legacy: Legacy,
        appender: Appender,
        *,
        new_id: Callable[[], str],
        clock: Callable[[], int],
        run: str,
        seal: Callable[[Draft], Draft] = lambda draft: draft,
        actor: str | None = None,
    ) -> None:
        self._legacy = legacy
        self._appender = appender
        self._new_id = new_id
        self._clock = clock
        self._run = run
        self._seal = seal
        self._actor = actor

    async def carry_out(self, steps: Sequence[Step], outcome: Outcome) -> None:
        """Do what was planned, one entity at a time; an entity that moved meanwhile is left alone."""
        for step in steps:
            match step:
                case Correction():
                    await self._correct(step, outcome)
                case Calls():
                    await self._send(step, outcome)
                case Beyond():
                    outcome.refused += 1

    async def record(self, authoritative: Origin, outcome: Outcome) -> None:
        """Put into the log that a repair was made, by whom and with what result."""
        data = {
            "run": self._run,
            "authoritative": authoritative.value,
            "done": outcome.done,
            "moved": outcome.moved,
            "refused": outcome.refused,
            "remaining": outcome.remaining,
        }
        event = Draft(self._new_id(), RECORDS, REPAIRED, self._clock(), data, actor=self._actor, cause="repair")
        await self._appender.append([event], {})

    async def _correct(self, step: Correction, outcome: Outcome) -> None:
        draft = Draft(
            id=self._new_id(),
            channel=step.channel,
            type=CORRECTED,
            time=self._clock(),
            data={"entity": step.key.entity, "key": step.key.key, "fields": step.told},
            entity=step.key,
            effect=Effect.DELETE if step.fields is None else Effect.PUT,
            change=step.fields,
            actor=self._actor,
            cause=f"repair:{self._run}",
        )
        try:
            await self._appender.append([self._seal(draft)], {step.key: step.position})
        except MovedError:
            outcome.moved += 1
        else:
            outcome.done += 1

    async def _send(self, step: Calls, outcome: Outcome) -> None:
        for call in step.calls:
            answer = await self._legacy.mutate(call.procedure, call.input)
            if not isinstance(answer, Answered):
                outcome.refused += 1
                return
        outcome.done += 1


async def remaining(passes: Passes, plan: Plan, steps: Sequence[Step]) -> int:
    """Look again at everything that was planned; returns how many still differ or cannot be compared."""
    keys = [step.key.key for step in steps if step.key.entity == plan.kind.name]
    tally = await passes.compare_keys(plan, keys)
    return len(tally.differing) + len(tally.unverified)


def plan_steps(
    contract: Contract,
    plan: Plan,
    found: Sequence[Difference],
    states: Mapping[str, Fields | None],
    history: Callable[[EntityKey], Sequence[Event]],
    authoritative: Origin,
    now: int,
) -> list[Step]:
    """Plan all differences of one kind of entity; `states` are what the log says of them."""
    steps: list[Step] = []
    for one in found:
        log = states.get(one.key)
        if authoritative is Origin.LOG:
            steps.append(calls(contract, plan, one, log, now))
        else:
            steps.append(correction(contract, plan, one, log, history(EntityKey(plan.kind.name, one.key)), now))
    return steps


async def plan_repair(
    contract: Contract, evidence: Evidence, passes: Passes, plan: Plan, keys: Sequence[str], origin: Origin, now: int
) -> list[Step]:
    """Look at these entities again and plan what still differs; reads both sides, changes neither."""
    tally = await passes.compare_keys(plan, keys)
    differing = [one.key for one in tally.differing]
    name = plan.kind.name

    def read() -> list[Step]:
        reading = evidence.reading(name, differing, evidence.moment())
        states = {key: reading.fields(key) for key in differing}
        return plan_steps(contract, plan, tally.differing, states, evidence.history, origin, now)

    return await asyncio.to_thread(read)
