"""A mutation's way through a phase that is mirrored: intent → legacy → events → answer.

The roads (`proxy.roads`) know how calls travel: JSON over HTTP, streams, WebSocket frames. They all hand their calls
to one `Attempt`, which owns the promises:

* an intent for every call is durable before the attempt's block is entered, so before a byte goes to the legacy
  (G1, G3);
* the entities' locks are held, in sorted order, from before the intent until after the events, so the order of
  events on one entity is the order in which the legacy applied the calls (G4);
* events, state, outcomes and kept answers of what is settled together become durable in one transaction, and
  `settle` returns only after it; whatever is left unsettled when the attempt is over is recorded as in doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from proxy.metrics import Metrics
from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown
from proxy.trpc.transformers import UNDEFINED
from shadow.contract import Contract, ExpressionError, Rule
from shadow.events import Draft, EntityKey, Event
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.stages import Stage

StateReader = Callable[[EntityKey], dict[str, Json] | None]
KeysOf = Callable[[str], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call that may change something; without a rule it is recorded as unmapped."""

    index: int
    procedure: str
    input: Json
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked, when (milliseconds), and under which request id and idempotency key."""

    request: str
    received: int
    actor: str | None = None
    idempotency: str | None = None


class Writer(Protocol):
    """What an attempt needs of the log."""

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Make intents durable and return their ids."""

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        """Make outcomes, events and state durable in one transaction."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """Everything that attempts share."""

    contract: Contract
    writer: Writer
    read_state: StateReader
    keys_of: KeysOf
    """The keys of all entities of a kind that are there."""
    locks: EntityLocks
    stage_of: Callable[[str], tuple[Stage, int]]
    """The stage of a phase and its epoch."""
    clock: Callable[[], int]
    new_id: Callable[[], str]
    metrics: Metrics

    def attempt(self, calls: Sequence[Call], asked: Asked) -> Attempt:
        """Prepare the mirroring of calls that travel together; enter it before anything is forwarded."""
        return Attempt(self, tuple(calls), asked)


class Attempt:
    """One request's calls, from their intents to their outcomes; see the module's promises."""

    def __init__(self, mirror: Mirror, calls: tuple[Call, ...], asked: Asked) -> None:
        self._mirror = mirror
        self._calls = {call.index: call for call in calls}
        self._asked = asked
        self._keys = {call.index: keys_before(call, asked.received, mirror.keys_of) for call in calls}
        self._intents: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        locks = self._mirror.locks
        self._held = await locks.acquire(sorted({key for keys in self._keys.values() for key in keys}))
        try:
            ids = await self._mirror.writer.begin([self._intent(call) for call in self._calls.values()])
        except BaseException:
            locks.release(self._held)
            raise
        self._intents = dict(zip(self._calls, ids, strict=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._intents:
                await self.doubt("aborted" if error else "no_answer")
        finally:
            self._mirror.locks.release(self._held)

    async def settle(self, outcomes: Mapping[int, CallOutcome]) -> tuple[Event, ...]:
        """Record what became of some of the calls, by index; durable on return.

        Calls that were settled before, and indexes nobody asked about, are ignored.
        """
        news = [(self._calls[index], outcome) for index, outcome in outcomes.items() if index in self._intents]
        settlements = [self._settlement(call, outcome) for call, outcome in news]
        events = await self._mirror.writer.settle(settlements)
        for (call, _), settlement in zip(news, settlements, strict=True):
            del self._intents[call.index]
            self._mirror.metrics.mutation(call.procedure, settlement.outcome, mapped=call.rule is not None)
        return events

    async def doubt(self, reason: str) -> None:
        """Record every call that is still open as in doubt, for `reason` (a short machine code)."""
        await self.settle({index: Unknown(reason) for index in self._intents})

    async def not_sent(self, reason: str) -> None:
        """Record every open call as rejected: it is proven that the legacy never received it."""
        await self.settle({index: Failure(code=reason, status=503, proven=True) for index in self._intents})

    def _intent(self, call: Call) -> NewIntent:
        rule, asked = call.rule, self._asked
        keys = self._keys[call.index]
        return NewIntent(
            request=asked.request,
            index=call.index,
            procedure=call.procedure,
            phase=rule.phase if rule else None,
            stage_epoch=self._mirror.stage_of(rule.phase)[1] if rule else 0,
            entity_key=keys[0] if keys else None,
            input=call.input,
            actor=asked.actor,
            received=asked.received,
            idempotency=asked.idempotency,
            deadline=asked.received + round(self._mirror.contract.legacy.max_request * 1000),
        )

    def _settlement(self, call: Call, outcome: CallOutcome) -> Settlement:
        intent = self._intents[call.index]
        mirror = self._mirror
        now = mirror.clock()
        match outcome:
            case Failure(code=code, proven=proven):
                return Settlement(intent, Outcome.REJECTED if proven else Outcome.IN_DOUBT, now, detail=code)
            case Unknown(reason=reason):
                return Settlement(intent, Outcome.IN_DOUBT, now, detail=reason)
            case Success(interrupted=True):
                return Settlement(intent, Outcome.IN_DOUBT, now, detail="interrupted")
            case Success(data=data):
                output = None if data is UNDEFINED else data
                return judge(
                    call,
                    output,
                    intent=intent,
                    read_state=mirror.read_state,
                    keys_of=mirror.keys_of,
                    now=now,
                    new_id=mirror.new_id,
                    actor=self._asked.actor,
                )
        raise AssertionError(outcome)


def keys_before(call: Call, now: int, keys_of: KeysOf) -> tuple[EntityKey, ...]:
    """Return the entities that a call is known to touch before it is forwarded.

    An input that the contract cannot read names none: the legacy will refuse it, or its outcome becomes a doubt.
    """
    try:
        return call.rule.keys_before(call.input, now, keys_of) if call.rule else ()
    except ExpressionError:
        return ()


def judge(
    call: Call,
    output: Json,
    *,
    intent: int,
    read_state: StateReader,
    keys_of: KeysOf,
    now: int,
    new_id: Callable[[], str],
    actor: str | None,
) -> Settlement:
    """Decide what an answer that carries a result means by the contract.

    A result that the contract's success rule denies is a rejection. A call whose expressions fail on real data was
    applied, but nobody can say as what: it is in doubt, and observation of the entity settles it.
    """
    rule = call.rule
    if rule is None:
        return Settlement(intent, Outcome.APPLIED, now, detail="unmapped")
    try:
        if not rule.succeeded(call.input, output):
            return Settlement(intent, Outcome.REJECTED, now, detail="unsuccessful")
        drafts: tuple[Draft, ...] = rule.decide(
            call.input, output, read_state, now, new_id, cause=f"intent:{intent}", actor=actor, keys_of=keys_of
        )
    except ExpressionError as error:
        return Settlement(intent, Outcome.IN_DOUBT, now, detail=f"contract:{error.key}")
    return Settlement(intent, Outcome.APPLIED, now, drafts)
