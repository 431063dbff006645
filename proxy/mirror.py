"""A mutation's way through a phase that is mirrored: intent → legacy → events → answer.

The roads (`proxy.roads`) know how calls travel: JSON over HTTP, streams, WebSocket frames. They all hand their calls
to one `Attempt`, which owns the promises:

* an intent for every call is durable before the attempt's block is entered, so before a byte goes to the legacy
  (G1, G3);
* the entities' locks are held, in sorted order, from before the intent until after the events, so events on
  one entity stand in the order of the legacy's own changes (G4);
* events, state, outcomes and kept answers of what is settled together become durable in one transaction, and
  `settle` returns only after it; whatever is left unsettled when the attempt is over is recorded as in doubt, and
  keeps its locks until `proxy.doubt` has found out what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import msgspec
from msgspec.structs import replace

from proxy.births import unnamed
from proxy.creations import Creation, Creations
from proxy.doubt import Left
from proxy.failopen import FailOpen
from proxy.metrics import Metrics
from proxy.observation import Observer
from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown
from proxy.trpc.transformers import UNDEFINED
from shadow.contract import Contract, ExpressionError, Rule
from shadow.contract.model import Ordering
from shadow.errors import LogUnavailable, Trouble
from shadow.events import Draft, EntityKey, Event
from shadow.faults import Point, reach
from shadow.journal import ANSWERED, NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.privacy import Privacy
from shadow.stages import Stage

MAY_STILL_RUN = frozenset(
    {"TIMEOUT", "CLIENT_CLOSED_REQUEST", "BAD_GATEWAY", "SERVICE_UNAVAILABLE", "GATEWAY_TIMEOUT", "UNKNOWN"}
)
"""Errors that may come from whoever stands before the legacy while the call runs on."""

UNSUCCESSFUL = "unsuccessful"
"""The reason of a rejection by the contract's success rule: the call ran, and says that it did nothing."""

StateReader = Callable[[EntityKey], dict[str, Json] | None]
KeysOf = Callable[[str], Iterable[str]]


class Call(msgspec.Struct, frozen=True):
    """One call that may change something; without a rule it is recorded as unmapped."""

    index: int
    procedure: str
    input: Json
    rule: Rule | None
    only_reads: Callable[[], Awaitable[bool]] | None = None
    """Finds out, once a call without a rule has succeeded, whether it surely changed nothing."""


class Asked(msgspec.Struct, frozen=True):
    """Who asked, when (milliseconds), and under which request id and idempotency key."""

    request: str
    received: int
    actor: str | None = None
    idempotency: str | None = None
    fingerprint: str | None = None
    keep_until: int = 0
    """With an idempotency key: what tells a retry from another request, and until when its answer is kept."""


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
    privacy: Privacy
    creations: Creations
    leave: Callable[[Left], asyncio.Event] | None = None
    """Sees a call through that an attempt leaves without an outcome, and takes over its locks; tells when it has."""
    never_sent: Callable[[str], object] | None = None
    """Settles what the log may have of a request that was refused."""
    fail_open: FailOpen | None = None
    """Takes the calls of phases that go on while the log cannot be written."""
    observer: Observer | None = None
    """Finds out in which order calls were applied whose order nobody saw."""
    patience: float = 30.0
    """Seconds that a mutation waits for an earlier one on its entity."""
    insist: float = 5.0
    """Seconds for which an outcome is offered again to a log that cannot be written."""

    def mirrors(self, rule: Rule | None) -> bool:
        """Tell whether a call is mirrored: by its phase's stage, or, without a rule, as soon as any phase is on."""
        phases = self.contract.phases if rule is None else (rule.phase,)
        return any(self.stage_of(phase)[0] is not Stage.OFF for phase in phases)

    def attempt(self, calls: Sequence[Call], asked: Asked) -> Attempt:
        """Prepare the mirroring of calls that travel together; enter it before anything is forwarded."""
        return Attempt(self, tuple(calls), asked)


class EntityBusy(Exception):
    """The entity's earlier mutation is still running or in doubt; nothing was forwarded."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"an earlier mutation of the same entity has not come to an end within {seconds:g} s; try again shortly"
        )


class NotRecorded(LogUnavailable):
    """The call was forwarded, and what became of it could not be written in time; it will be, as soon as it can."""


class Attempt:
    """One request's calls, from their intents to their outcomes; see the module's promises."""

    def __init__(self, mirror: Mirror, calls: tuple[Call, ...], asked: Asked) -> None:
        self._mirror = mirror
        self._calls = {call.index: call for call in calls}
        self._asked = asked
        self._keys = {call.index: keys_before(call, asked.received, mirror.keys_of) for call in calls}
        self._intents: dict[int, int] = {}
        self._held: set[EntityKey] = set()
        self._kept: set[EntityKey] = set()
        self._creations: dict[int, Creation] = {}
        self._left: list[Left] = []
        self._interrupted: list[Settlement] = []
        self._spooled: dict[int, int] = {}
        self._fail_open: FailOpen | None = None
        self._overlapping: tuple[EntityKey, ...] = ()
        self._unclear: set[EntityKey] = set()
        self._shared = shared(self._keys)

    async def __aenter__(self) -> Self:
        """Make ready to forward; raises `EntityBusy` and LogUnavailable, and then nothing may be forwarded."""
        await self._take_locks()
        try:
            reach(Point.LOCKED)
            await self._begin()
        except BaseException:
            self._release()
            raise
        reach(Point.INTENDED)
        return self

    async def _begin(self) -> None:
        """Make the intents durable: in the log, or, where the contract lets a phase go on without it, in the spool."""
        mirror = self._mirror
        phases = {call.rule.phase for call in self._calls.values() if call.rule}
        if mirror.fail_open is not None and phases and mirror.fail_open.allows(phases):
            self._fail_open = mirror.fail_open
        intents = [self._intent(call) for call in self._calls.values()]
        if mirror.fail_open is not None and mirror.fail_open.spools(phases):
            if self._fail_open is None:
                raise LogUnavailable(Trouble.GONE, "a phase of this batch is still to be shipped from the spool")
            await self._begin_in_spool(self._fail_open, intents)
            return
        try:
            ids = await mirror.writer.begin(intents)
        except LogUnavailable as error:
            if error.unknown and mirror.never_sent is not None and (not phases or self._fail_open is None):
                mirror.never_sent(self._asked.request)
            if not phases:
                # Nothing is owed to the log for calls without a rule: they pass, and are counted.
                mirror.metrics.not_mirrored("log_unavailable")
            elif self._fail_open is None:
                raise
            else:
                await self._begin_in_spool(self._fail_open, intents)
        else:
            self._intents = dict(zip(self._calls, ids, strict=True))

    async def _begin_in_spool(self, fail_open: FailOpen, intents: Sequence[NewIntent]) -> None:
        if self._asked.idempotency is not None:
            # Whoever sends a key would rather wait than have it done twice, and a retry could not be recognised.
            raise LogUnavailable(Trouble.GONE, "what is sent with an Idempotency-Key is not taken without the log")
        numbers = await fail_open.tried(intents, [call.input for call in self._calls.values()])
        self._spooled = dict(zip(self._calls, numbers, strict=True))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._interrupted:
                await self._write(self._interrupted)
            if self._intents or self._spooled:
                await self.doubt("aborted" if error else "no_answer")
            if error is None:
                await self._observe()
        finally:
            looked = self._hand_over()
            self._release()
        if looked and error is None:
            # The legacy said that it did it: the client should not hear of it before the log knows what was done.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._mirror.insist):
                    for seen in looked:
                        await seen.wait()

    async def settle(self, outcomes: Mapping[int, CallOutcome], *, answer: bytes | None = None) -> tuple[Event, ...]:
        """Record what became of some of the calls, by index; durable on return.

        Calls that were settled before, and indexes nobody asked about, are ignored. What is answered without proof
        is in doubt. `answer` is what a retry with the same idempotency key will get; give it with all outcomes at
        once. Raises `NotRecorded` when the log does not take it in time.
        """
        return await self._settle(outcomes, answered=True, answer=answer)

    async def doubt(self, reason: str) -> None:
        """Record every call that is still open as in doubt, for `reason` (a short machine code): no answer came.

        What the log does not take now is recorded when it does; the intents are durable meanwhile.
        """
        with suppress(LogUnavailable):
            open_calls = [*self._intents, *self._spooled]
            await self._settle({index: Unknown(reason) for index in open_calls}, answered=False)

    async def not_sent(self, reason: str) -> None:
        """Record every open call as not applied: it is proven that the legacy never received it."""
        await self.nothing_applied(reason)

    async def nothing_applied(self, reason: str) -> None:
        """Record every open call as not applied, which is proven by `reason` (a short machine code)."""
        with suppress(LogUnavailable):
            if self._spooled:
                await self._spool([(index, "not_applied", None, reason) for index in self._spooled])
            else:
                await self._write([self._nothing_applied(index, reason) for index in self._intents])

    def describe(self, given: Json) -> None:
        """Note the input of every call as it is known now: one that streams through is known at its end."""
        self._calls = {index: replace(call, input=given) for index, call in self._calls.items()}

    async def _settle(
        self, outcomes: Mapping[int, CallOutcome], *, answered: bool, answer: bytes | None = None
    ) -> tuple[Event, ...]:
        reach(Point.ANSWERED)
        open_calls = self._spooled or self._intents
        news = [(self._calls[index], outcome) for index, outcome in outcomes.items() if index in open_calls]
        reads = [call.index for call, outcome in news if call.only_reads is not None and isinstance(outcome, Success)]
        reads = [index for index in reads if await self._only_reads(index)] if reads else reads
        if self._shared:
            news = await self._in_order(news)
        ends = [
            (call.index, "not_applied", None, "query")
            if call.index in reads
            else spool_end(call.index, outcome, answered=answered)
            for call, outcome in (news if self._fail_open else ())
        ]
        if self._spooled:
            await self._spool(ends)
            return ()
        settlements: list[Settlement] = []
        try:
            settlements = [
                self._nothing_applied(call.index, "query")
                if call.index in reads
                else self._settlement(call, outcome, answered=answered)
                for call, outcome in news
            ]
            if answer is not None and self._asked.idempotency is not None:
                procedures = [call.procedure for call in self._calls.values()]
                settlements = with_answer(settlements, self._mirror.privacy.seal_answer(procedures, answer))
            return await self._write(settlements)
        except LogUnavailable:
            if self._fail_open is None:
                raise
            try:
                await self._spool_late(self._fail_open, ends)
            except LogUnavailable as error:
                for settlement in settlements:
                    if settlement.intent in self._intents.values():
                        self._leave(settlement, owed=settlement)
                raise NotRecorded(error.trouble, "what became of a forwarded call is not recorded yet") from error
            return ()

    async def _in_order(self, news: list[tuple[Call, CallOutcome]]) -> list[tuple[Call, CallOutcome]]:
        """Put calls of one batch on one entity into the order in which the legacy applied them, as far as it shows."""
        observer = self._mirror.observer
        applied = {call.index: call for call, outcome in news if isinstance(outcome, Success)}
        for key, indexes in self._shared.items():
            mine = {index: applied[index] for index in indexes if index in applied}
            self._unclear.update([key] if mine else ())
            if len(mine) < 2 or observer is None:
                continue
            order, sure = await observer.order(mine, key, self._asked.received)
            places = [place for place, (call, _) in enumerate(news) if call.index in mine]
            sorted_news = {call.index: (call, outcome) for call, outcome in news}
            for place, index in zip(places, order, strict=True):
                news[place] = sorted_news[index]
            if sure and len(mine) == len(indexes):
                self._unclear.discard(key)
        return news

    async def _observe(self) -> None:
        """Look at the entities on which calls overlapped, this request's own or others', and correct the log."""
        observer = self._mirror.observer
        quiet = () if observer is None else observer.overlaps.leave(self._overlapping)
        self._overlapping = ()
        keys = sorted({*self._unclear, *quiet})
        self._unclear = set()
        phases = {call.rule.phase for call in self._calls.values() if call.rule}
        behind = self._fail_open is not None and self._fail_open.spools(phases)
        if observer is not None and keys and not behind:
            await observer.observe(keys, f"order:{self._asked.request}")

    async def _spool_late(self, fail_open: FailOpen, ends: Sequence[tuple[int, str, Json, str | None]]) -> None:
        """Spool the outcomes of calls whose intents the log has, when it does not take the outcomes."""
        calls = [self._calls[index] for index, *_ in ends]
        begun = [self._intents[call.index] for call in calls]
        intents = [self._intent(call) for call in calls]
        numbers = await fail_open.tried(intents, [call.input for call in calls], begun=begun)
        for call, number in zip(calls, numbers, strict=True):
            del self._intents[call.index]
            self._spooled[call.index] = number
        await self._spool(ends)

    async def _spool(self, ends: Sequence[tuple[int, str, Json, str | None]]) -> None:
        """Spool outcomes as (index, outcome, output, detail); what cannot be spooled is in doubt when it is shipped."""
        fail_open = self._mirror.fail_open
        assert fail_open is not None
        numbers = {index: self._spooled.pop(index) for index, *_ in ends}
        for index, outcome, *_ in ends:
            call = self._calls[index]
            self._mirror.metrics.mutation(call.procedure, f"spooled_{outcome}", mapped=call.rule is not None)
            if outcome == "in_doubt":
                self._keep(fail_open, index, numbers[index])
        try:
            await fail_open.ended(
                [
                    (numbers[index], self._calls[index].procedure, outcome, output, detail)
                    for index, outcome, output, detail in ends
                ]
            )
        except LogUnavailable:
            for index, outcome, *_ in ends:
                if outcome != "in_doubt":
                    self._keep(fail_open, index, numbers[index])
            raise

    def _keep(self, fail_open: FailOpen, index: int, number: int) -> None:
        """Leave the locks of a spooled call in doubt to the spool: nobody may overtake it on its way to the log."""
        left = self._left_behind(self._calls[index], 0, "in_doubt", owed=None)
        self._kept.update(left.keys)
        fail_open.keep(number, left)

    async def _only_reads(self, index: int) -> bool:
        only_reads = self._calls[index].only_reads
        return only_reads is not None and await only_reads()

    def _nothing_applied(self, index: int, reason: str) -> Settlement:
        return Settlement(self._intents[index], Outcome.NOT_APPLIED, self._mirror.clock(), detail=reason)

    async def _write(self, settlements: list[Settlement]) -> tuple[Event, ...]:
        """Write settlements of open calls, for a while again and again, and note what is left behind."""
        try:
            events = await self._written(settlements)
        except asyncio.CancelledError:
            # It may be written all the same; only saying the same again is safe.
            self._interrupted = settlements
            raise
        except LogUnavailable as error:
            if self._fail_open is not None:
                raise
            for settlement in settlements:
                self._leave(settlement, owed=settlement)
            raise NotRecorded(error.trouble, "what became of a forwarded call is not recorded yet") from error
        self._interrupted = []
        for settlement in settlements:
            if settlement.outcome is Outcome.IN_DOUBT:
                self._leave(settlement, owed=None)
            else:
                self._close(settlement)
        if self._intents:
            self._release_settled()
        reach(Point.SETTLED)
        return events

    def _release_settled(self) -> None:
        """Free what only settled calls held: in a stream the others may go on for long."""
        needed = {key for index in self._intents for key in self._keys[index]} | self._unclear
        needed.update(key for left in self._left for key in left.keys)
        needed.update(self._kept)
        free = self._held - needed
        self._mirror.locks.release(sorted(free))
        self._held -= free
        for index in self._creations.keys() - self._intents.keys():
            self._creations.pop(index).end()

    async def _written(self, settlements: list[Settlement]) -> tuple[Event, ...]:
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + (0 if self._fail_open else self._mirror.insist), 0.05
        while True:
            try:
                return await self._mirror.writer.settle(settlements)
            except LogUnavailable:
                if loop.time() + pause >= give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _close(self, settlement: Settlement) -> Call:
        index = next(index for index, intent in self._intents.items() if intent == settlement.intent)
        del self._intents[index]
        call = self._calls[index]
        self._mirror.metrics.mutation(call.procedure, settlement.outcome, mapped=call.rule is not None)
        return call

    def _leave(self, settlement: Settlement, *, owed: Settlement | None) -> None:
        call = self._close(settlement)
        reason = settlement.detail or "log_unavailable"
        self._left.append(self._left_behind(call, settlement.intent, reason, owed=owed))

    def _left_behind(self, call: Call, intent: int, reason: str, *, owed: Settlement | None) -> Left:
        return Left(
            intent,
            call.procedure,
            call.rule.phase if call.rule else None,
            self._asked.received,
            reason,
            tuple(key for key in self._keys[call.index] if key in self._held),
            self._creations.pop(call.index, None),
            owed,
        )

    async def _take_locks(self) -> None:
        """Wait for what came before on the same entities, creates of unknown ones included; raises `EntityBusy`."""
        mirror = self._mirror
        wanted = sorted({key for keys in self._keys.values() for key in keys})
        strict = [key for key in wanted if self._is_strict(key)]
        if mirror.creations.any(key.entity for key in wanted) or not mirror.locks.take_free(strict):
            await self._wait_for_locks(wanted, strict)
        self._held = set(strict)
        if mirror.observer is not None:
            self._overlapping = mirror.observer.overlaps.enter(key for key in wanted if key not in self._held)
        for call in self._calls.values():
            if kinds := kinds_made(call, self._asked.received):
                self._creations[call.index] = mirror.creations.begin(kinds)

    async def _wait_for_locks(self, wanted: Sequence[EntityKey], strict: Sequence[EntityKey]) -> None:
        mirror = self._mirror
        try:
            async with asyncio.timeout(mirror.patience):
                for kind in {key.entity for key in wanted if self._unknown(key)}:
                    await mirror.creations.ended(kind)
                await mirror.locks.acquire(strict)
        except TimeoutError:
            raise EntityBusy(mirror.patience) from None

    def _is_strict(self, key: EntityKey) -> bool:
        contract = self._mirror.contract
        phase = contract.phases[contract.entities[key.entity].phase]
        return self._mirror.observer is None or phase.ordering is Ordering.STRICT

    def _unknown(self, key: EntityKey) -> bool:
        try:
            return self._mirror.read_state(key) is None
        except LogUnavailable:
            return True

    def _hand_over(self) -> list[asyncio.Event]:
        """Give what is left behind, with its locks, to those who will see it through.

        Returns what tells of the calls that the legacy acknowledged, though the contract could not read them.
        """
        looked: list[asyncio.Event] = []
        if self._mirror.leave is not None:
            for left in self._left:
                self._held.difference_update(left.keys)
                seen = self._mirror.leave(left)
                if left.reason.startswith("contract:"):
                    looked.append(seen)
            self._left = []
        return looked

    def _release(self) -> None:
        if self._overlapping and self._mirror.observer is not None:
            for key in self._mirror.observer.overlaps.leave(self._overlapping):
                self._mirror.observer.overlaps.again(key)
            self._overlapping = ()
        self._mirror.locks.release(sorted(self._held - self._kept))
        self._held = set()
        for creation in (*self._creations.values(), *(left.creation for left in self._left if left.creation)):
            creation.end()

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
            input=self._mirror.privacy.seal_input(call.procedure, call.input),
            actor=asked.actor,
            received=asked.received,
            idempotency=asked.idempotency,
            fingerprint=asked.fingerprint,
            keep_until=asked.keep_until,
            deadline=self._mirror.clock() + round(self._mirror.contract.legacy.max_request * 1000),
        )

    def _settlement(self, call: Call, outcome: CallOutcome, *, answered: bool) -> Settlement:
        intent = self._intents[call.index]
        mirror = self._mirror
        now = mirror.clock()
        match outcome:
            case Failure(code=code, proven=True):
                return Settlement(intent, Outcome.REJECTED, now, detail=code)
            case Failure(code=code):
                ended = answered and code not in MAY_STILL_RUN
                return Settlement(intent, Outcome.IN_DOUBT, now, detail=ANSWERED + code if ended else code)
            case Unknown(reason=reason):
                return Settlement(intent, Outcome.IN_DOUBT, now, detail=ANSWERED + reason if answered else reason)
            case Success(interrupted=True):
                return Settlement(intent, Outcome.IN_DOUBT, now, detail=ANSWERED + "interrupted")
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
                    privacy=mirror.privacy,
                )
        raise AssertionError(outcome)


def with_answer(settlements: Sequence[Settlement], answer: bytes) -> list[Settlement]:
    """Return the settlements of a request with its answer, to be kept by the first of them; the others point to it.

    Nothing is kept when every call was refused before it did anything: asking again is then asking for the first time.
    """
    final = [each for each in settlements if each.outcome in {Outcome.APPLIED, Outcome.REJECTED}]
    if all(each.outcome is Outcome.REJECTED and each.detail != UNSUCCESSFUL for each in final):
        return list(settlements)
    return [
        replace(each, answer=answer if each is final[0] else b"") if each in final else each for each in settlements
    ]


def shared(keys: Mapping[int, Sequence[EntityKey]]) -> dict[EntityKey, list[int]]:
    """Return the entities that several calls of a request are about, with the calls."""
    users: dict[EntityKey, list[int]] = {}
    for index, mine in keys.items():
        for key in mine:
            users.setdefault(key, []).append(index)
    return {key: indexes for key, indexes in users.items() if len(indexes) > 1}


def spool_end(index: int, outcome: CallOutcome, *, answered: bool) -> tuple[int, str, Json, str | None]:
    """Return what the spool keeps of a call's outcome: (index, outcome, output, detail)."""
    match outcome:
        case Failure(code=code, proven=True):
            return index, "rejected", None, code
        case Failure(code=code):
            ended = answered and code not in MAY_STILL_RUN
            return index, "in_doubt", None, ANSWERED + code if ended else code
        case Unknown(reason=reason):
            return index, "in_doubt", None, ANSWERED + reason if answered else reason
        case Success(interrupted=True):
            return index, "in_doubt", None, ANSWERED + "interrupted"
        case Success(data=data):
            return index, "success", None if data is UNDEFINED else data, None
    raise AssertionError(outcome)


def kinds_made(call: Call, now: int) -> frozenset[str]:
    """Return the kinds of entity that a call makes under keys which only its answer tells."""
    if call.rule is None:
        return frozenset()
    return frozenset(event.entity.name for event in unnamed(call.rule, call.input, now) if event.entity)


def keys_before(call: Call, now: int, keys_of: KeysOf) -> tuple[EntityKey, ...]:
    """Return the entities that a call is known to touch before it is forwarded.

    An input that the contract cannot read names none: the legacy will refuse it, or its outcome becomes a doubt.
    Nor does a log that cannot be read, where it is asked which keys there are.
    """
    try:
        return call.rule.keys_before(call.input, now, keys_of) if call.rule else ()
    except (ExpressionError, LogUnavailable):
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
    privacy: Privacy,
) -> Settlement:
    """Decide what an answer that carries a result means by the contract.

    A result that the contract's success rule denies is a rejection. A call whose expressions fail on real data was
    applied, but nobody can say as what: it is in doubt, and observation of the entity settles it. What the contract
    calls secret leaves this function sealed.
    """
    rule = call.rule
    if rule is None:
        return Settlement(intent, Outcome.APPLIED, now, detail="unmapped")
    try:
        if not rule.succeeded(call.input, output):
            return Settlement(intent, Outcome.REJECTED, now, detail=UNSUCCESSFUL)
        drafts: tuple[Draft, ...] = rule.decide(
            call.input, output, read_state, now, new_id, cause=f"intent:{intent}", actor=actor, keys_of=keys_of
        )
        drafts = privacy.seal_drafts(call.procedure, call.input, output, drafts)
    except ExpressionError as error:
        return Settlement(intent, Outcome.IN_DOUBT, now, detail=f"contract:{error.key}")
    return Settlement(intent, Outcome.APPLIED, now, drafts)
