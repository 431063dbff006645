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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import msgspec
from msgspec.structs import replace

from proxy.claims import Claims, Ground
from proxy.creations import Creations
from proxy.doubt import Left
from proxy.failopen import FailOpen
from proxy.judging import (
    Asked,
    Call,
    Judges,
    KeysOf,
    SpoolEnd,
    StateReader,
    output_of,
    spool_end,
    unproven,
    with_answer,
)
from proxy.metrics import Metrics
from proxy.observation import Observer
from proxy.trpc.envelopes import CallOutcome, Success, Unknown
from shadow.contract import Contract, Rule
from shadow.contract.model import Ordering
from shadow.errors import DraftRefused, LogUnavailable, Trouble
from shadow.events import EntityKey, Event
from shadow.faults import Point, reach
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Waiter
from shadow.privacy import Privacy
from shadow.stages import Stage

COMMITTED_WITHIN = 15_000
"""Milliseconds that writing an intent may take. With what waiting for a connection takes at most, that is how late a
call can be forwarded (`proxy.verdict.FORWARDED_WITHIN`)."""


PLAIN = frozenset({Outcome.APPLIED, Outcome.REJECTED, Outcome.NOT_APPLIED})
"""Outcomes that leave nothing to be found out."""


class Writer(Protocol):
    """What an attempt needs of the log."""

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Make intents durable and return their ids."""

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        """Make outcomes, events and state durable in one transaction."""

    def begin_then(self, intents: Sequence[NewIntent], told: Waiter[tuple[int, ...]], /) -> None:
        """As `begin`, for a road without a task."""

    def settle_then(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]], /) -> None:
        """As `settle`, for a road without a task."""


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
    ground: Ground = field(init=False)
    judges: Judges = field(init=False)
    max_request: int = field(init=False)
    """Milliseconds after which a call that was forwarded can no longer be applied."""

    def __post_init__(self) -> None:
        overlaps = None if self.observer is None else self.observer.overlaps
        waiting = {name for name, entity in self.contract.entities.items() if self._waits(entity.phase)}
        ground = Ground(
            self.locks,
            self.creations,
            overlaps,
            waiting.__contains__,
            self.read_state,
            self.keys_of,
            self.patience,
        )
        object.__setattr__(self, "max_request", round(self.contract.legacy.max_request * 1000))
        object.__setattr__(self, "ground", ground)
        object.__setattr__(self, "judges", Judges(self.read_state, self.keys_of, self.new_id, self.privacy))

    def _waits(self, phase: str) -> bool:
        return self.observer is None or self.contract.phases[phase].ordering is Ordering.STRICT

    def mirrors(self, rule: Rule | None) -> bool:
        """Tell whether a call is mirrored: by its phase's stage, or, without a rule, as soon as any phase is on."""
        if rule is not None:
            return self.stage_of(rule.phase)[0] is not Stage.OFF
        return any(self.stage_of(phase)[0] is not Stage.OFF for phase in self.contract.phases)

    def mirrors_all(self, phases: Iterable[str]) -> bool:
        """Tell whether the calls of all these phases are mirrored."""
        return all(self.stage_of(phase)[0] is not Stage.OFF for phase in phases)

    def attempt(self, calls: Sequence[Call], asked: Asked) -> Attempt:
        """Prepare the mirroring of calls that travel together; enter it before anything is forwarded."""
        return Attempt(self, calls, asked)


class Unrecordable(Exception):
    """A name in the call is one that no log can hold; nothing was forwarded."""

    def __init__(self) -> None:
        super().__init__(
            "a key in this call holds a character that no log can keep (NUL, or half of a surrogate pair), "
            "so it is not taken; use another key"
        )


class NotRecorded(LogUnavailable):
    """The call was forwarded, and what became of it could not be written in time; it will be, as soon as it can."""


class Ahead(msgspec.Struct, frozen=True):
    """What was asked of the log before the attempt was entered, to be waited for instead of asked again."""

    begun: asyncio.Future[tuple[int, ...]] | None = None
    settlements: tuple[Settlement, ...] = ()
    settled: asyncio.Future[tuple[Event, ...]] | None = None


NOTHING_AHEAD = Ahead()


class Attempt:
    """One request's calls, from their intents to their outcomes; see the module's promises.

    Enter it, and everything waits for what it has to wait for. A road without a task (`proxy.roads.express_calls`)
    goes the plain way by the methods whose names end in `at_once`, and enters it as soon as the way is not plain.
    """

    __slots__ = (
        "_asked",
        "_begun_at",
        "_calls",
        "_claimed",
        "_claims",
        "_fail_open",
        "_intents",
        "_interrupted",
        "_left",
        "_mirror",
        "_phases",
        "_shared",
        "_spooled",
        "_unclear",
        "ahead",
    )

    def __init__(self, mirror: Mirror, calls: Sequence[Call], asked: Asked) -> None:
        self._mirror = mirror
        self._calls = {call.index: call for call in calls}
        self._asked = asked
        self._claims = Claims(mirror.ground, calls, asked.received)
        self._shared = self._claims.shared() if len(calls) > 1 else {}
        self._phases = {call.rule.phase for call in calls if call.rule is not None}
        self._intents: dict[int, int] = {}
        self._spooled: dict[int, int] = {}
        self._left: list[Left] = []
        self._interrupted: list[Settlement] = []
        self._unclear: set[EntityKey] = set()
        may_fail_open = mirror.fail_open is not None and bool(self._phases) and mirror.fail_open.allows(self._phases)
        self._fail_open: FailOpen | None = mirror.fail_open if may_fail_open else None
        self._claimed = False
        self._begun_at = 0
        self.ahead = NOTHING_AHEAD

    # --- the plain way, without a task -------------------------------------------------------------------------

    def claim_at_once(self) -> bool:
        """Claim what the calls are about if it is free and the way looks plain; tells whether."""
        fail_open = self._mirror.fail_open
        spools = fail_open is not None and fail_open.spools(self._phases)
        if not spools and not self._shared and self._claims.strict:
            self._claimed = self._claims.take_free()
        return self._claimed

    def begin_at_once(self, told: Waiter[tuple[int, ...]]) -> None:
        """Ask the log for the intents of what is claimed; raises LogUnavailable when it is closed."""
        reach(Point.LOCKED)
        self._mirror.writer.begin_then(self._new_intents(), told)

    def begun_at_once(self, ids: tuple[int, ...]) -> bool:
        """Note that the intents are durable: the calls may be forwarded. Tells whether it was in time."""
        if self._began_late():
            return False
        self._intents = dict(zip(self._calls, ids, strict=True))
        reach(Point.INTENDED)
        return True

    def judged_at_once(self, outcomes: Sequence[CallOutcome]) -> tuple[Settlement, ...] | None:
        """Return what is to be recorded of the calls, in their order; None unless it is clear of all of them."""
        if len(outcomes) != len(self._calls):
            return None
        settlements = []
        for call, outcome in zip(self._calls.values(), outcomes, strict=True):
            settlement = self._settlement(call, outcome, answered=True)
            if settlement.outcome not in PLAIN:
                return None
            settlements.append(settlement)
        return tuple(settlements)

    def settle_at_once(self, settlements: tuple[Settlement, ...], told: Waiter[tuple[Event, ...]]) -> None:
        """Ask the log to record what was judged; raises LogUnavailable when it is closed."""
        reach(Point.ANSWERED)
        self.ahead = Ahead(settlements=settlements)
        self._mirror.writer.settle_then(settlements, told)

    def settled_at_once(self) -> None:
        """Note that the outcomes are durable, and free what was claimed."""
        count = self._mirror.metrics.mutation
        for call, settlement in zip(self._calls.values(), self.ahead.settlements, strict=True):
            count(call.procedure, settlement.outcome, mapped=call.rule is not None)
        self._intents.clear()
        self._claims.release()
        reach(Point.SETTLED)

    # --- with a task -------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Make ready to forward; raises `EntityBusy`, `Unrecordable` and LogUnavailable: then nothing may be."""
        if self._intents:
            return self
        if not (self._claimed or self._claims.take_free()):
            await self._claims.wait()
        try:
            reach(Point.LOCKED)
            await self._begin()
        except DraftRefused:
            self._claims.release()
            raise Unrecordable from None
        except BaseException:
            self._claims.release()
            raise
        reach(Point.INTENDED)
        return self

    async def _begin(self) -> None:
        """Make the intents durable: in the log, or, where the contract lets a phase go on without it, in the spool."""
        mirror = self._mirror
        intents = self._new_intents()
        if self.ahead.begun is None and mirror.fail_open is not None and mirror.fail_open.spools(self._phases):
            if self._fail_open is None:
                raise LogUnavailable(Trouble.GONE, "a phase of this batch is still to be shipped from the spool")
            await self._begin_in_spool(self._fail_open, intents)
            return
        try:
            ids = await (self.ahead.begun or mirror.writer.begin(intents))
        except LogUnavailable as error:
            if error.unknown and mirror.never_sent is not None and (not self._phases or self._fail_open is None):
                mirror.never_sent(self._asked.request)
            if not self._phases:
                # Nothing is owed to the log for calls without a rule: they pass, and are counted.
                mirror.metrics.not_mirrored("log_unavailable")
            elif self._fail_open is None:
                raise
            else:
                await self._begin_in_spool(self._fail_open, intents)
        else:
            self._intents = dict(zip(self._calls, ids, strict=True))
            if self._began_late():
                await self.nothing_applied("log_slow")
                raise LogUnavailable(Trouble.LOCKED, "it took so long to write the intent that the call is not taken")

    def _new_intents(self) -> list[NewIntent]:
        self._begun_at = self._begun_at or self._mirror.clock()
        return [self._intent(call, self._begun_at) for call in self._calls.values()]

    def _began_late(self) -> bool:
        return self._mirror.clock() - self._begun_at > COMMITTED_WITHIN

    async def _begin_in_spool(self, fail_open: FailOpen, intents: Sequence[NewIntent]) -> None:
        if self._asked.idempotency is not None:
            # Whoever sends a key would rather wait than have it done twice, and a retry could not be recognised.
            raise LogUnavailable(Trouble.GONE, "what is sent with an Idempotency-Key is not taken without the log")
        numbers = await fail_open.tried(intents, [call.input for call in self._calls.values()])
        self._spooled = dict(zip(self._calls, numbers, strict=True))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        looked: list[asyncio.Event] = []
        try:
            if self._interrupted:
                await self._write(self._interrupted)
            if self._intents or self._spooled:
                await self.doubt("aborted" if error else "no_answer")
            if error is None:
                await self._observe()
        finally:
            if self._left:
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
                await self._spool([SpoolEnd(index, "not_applied", None, reason) for index in self._spooled])
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
        if reads:
            reads = [index for index in reads if await self._only_reads(index)]
        if self._shared:
            news = await self._in_order(news)
        if self._spooled:
            await self._spool(_spool_ends(news, reads, answered=answered))
            return ()
        settlements: list[Settlement] = []
        try:
            settlements = list(self.ahead.settlements) or [
                self._nothing_applied(call.index, "query")
                if call.index in reads
                else self._settlement(call, outcome, answered=answered)
                for call, outcome in news
            ]
            if answer is not None and self._asked.idempotency is not None:
                procedures = [call.procedure for call in self._calls.values()]
                settlements = with_answer(settlements, self._mirror.privacy.seal_answer(procedures, answer))
            return await self._record(settlements)
        except LogUnavailable:
            if self._fail_open is None:
                raise
            await self._spool_or_leave(self._fail_open, _spool_ends(news, reads, answered=answered), settlements)
            return ()

    async def _spool_or_leave(
        self, fail_open: FailOpen, ends: Sequence[SpoolEnd], settlements: Sequence[Settlement]
    ) -> None:
        """Spool the outcomes of calls whose intents the log has; raises `NotRecorded` when that fails too."""
        try:
            await self._spool_late(fail_open, ends)
        except LogUnavailable as error:
            for settlement in settlements:
                if settlement.intent in self._intents.values():
                    self._leave(settlement, owed=settlement)
            raise NotRecorded(error.trouble, "what became of a forwarded call is not recorded yet") from error

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
        keys = {*self._unclear, *self._claims.quiet()}
        self._unclear = set()
        behind = self._fail_open is not None and self._fail_open.spools(self._phases)
        if observer is not None and keys and not behind:
            await observer.observe(sorted(keys), f"order:{self._asked.request}")

    async def _spool_late(self, fail_open: FailOpen, ends: Sequence[SpoolEnd]) -> None:
        """Spool the outcomes of calls whose intents the log has, when it does not take the outcomes."""
        calls = [self._calls[end.index] for end in ends]
        begun = [self._intents[call.index] for call in calls]
        intents = [self._intent(call, self._mirror.clock()) for call in calls]
        numbers = await fail_open.tried(intents, [call.input for call in calls], begun=begun)
        for call, number in zip(calls, numbers, strict=True):
            del self._intents[call.index]
            self._spooled[call.index] = number
        await self._spool(ends)

    async def _spool(self, ends: Sequence[SpoolEnd]) -> None:
        """Spool outcomes; what cannot be spooled is in doubt when it is shipped."""
        fail_open = self._mirror.fail_open
        assert fail_open is not None
        numbers = {end.index: self._spooled.pop(end.index) for end in ends}
        for end in ends:
            call = self._calls[end.index]
            self._mirror.metrics.mutation(call.procedure, f"spooled_{end.outcome}", mapped=call.rule is not None)
            if end.outcome == "in_doubt":
                self._keep(fail_open, end.index, numbers[end.index])
        try:
            await fail_open.ended(
                [
                    (numbers[end.index], self._calls[end.index].procedure, end.outcome, end.output, end.detail)
                    for end in ends
                ]
            )
        except LogUnavailable:
            for end in ends:
                if end.outcome != "in_doubt":
                    self._keep(fail_open, end.index, numbers[end.index])
            raise

    def _keep(self, fail_open: FailOpen, index: int, number: int) -> None:
        """Leave the locks of a spooled call in doubt to the spool: nobody may overtake it on its way to the log."""
        left = self._left_behind(self._calls[index], 0, "in_doubt", owed=None)
        self._claims.keep(left.keys)
        fail_open.keep(number, left)

    async def _only_reads(self, index: int) -> bool:
        only_reads = self._calls[index].only_reads
        return only_reads is not None and await only_reads()

    def _nothing_applied(self, index: int, reason: str) -> Settlement:
        return Settlement(self._intents[index], Outcome.NOT_APPLIED, self._mirror.clock(), detail=reason)

    async def _record(self, settlements: list[Settlement]) -> tuple[Event, ...]:
        """Write settlements; what the legacy did and no log can hold is in doubt, for somebody to look at."""
        try:
            return await self._write(settlements)
        except DraftRefused:
            return await self._write([_without_events(settlement) for settlement in settlements])

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
            needed = [key for left in self._left for key in left.keys]
            self._claims.release_settled(self._intents, [*needed, *self._unclear])
        reach(Point.SETTLED)
        return events

    async def _written(self, settlements: list[Settlement]) -> tuple[Event, ...]:
        """Return the events once they are durable; insists for a while where the phase does not go on without."""
        asked, self.ahead = self.ahead.settled, NOTHING_AHEAD
        try:
            return await (asked or self._mirror.writer.settle(settlements))
        except LogUnavailable:
            if self._fail_open is not None:
                raise
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + self._mirror.insist, 0.05
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
            try:
                return await self._mirror.writer.settle(settlements)
            except LogUnavailable:
                if loop.time() + pause >= give_up:
                    raise

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
        keys, creation = self._claims.of(call.index)
        phase = call.rule.phase if call.rule else None
        return Left(intent, call.procedure, phase, self._asked.received, reason, keys, creation, owed)

    def _hand_over(self) -> list[asyncio.Event]:
        """Give what is left behind, with its locks, to those who will see it through.

        Returns what tells of the calls that the legacy acknowledged, though the contract could not read them.
        """
        looked: list[asyncio.Event] = []
        if self._mirror.leave is not None:
            for left in self._left:
                self._claims.hand_over(left.keys)
                seen = self._mirror.leave(left)
                if left.reason.startswith("contract:"):
                    looked.append(seen)
            self._left = []
        return looked

    def _release(self) -> None:
        self._claims.release()
        for left in self._left:
            if left.creation is not None:
                left.creation.end()

    def _intent(self, call: Call, now: int) -> NewIntent:
        mirror, rule, asked = self._mirror, call.rule, self._asked
        keys = self._claims.keys[call.index]
        return NewIntent(
            request=asked.request,
            index=call.index,
            procedure=call.procedure,
            phase=rule.phase if rule else None,
            stage_epoch=mirror.stage_of(rule.phase)[1] if rule else 0,
            entity_key=keys[0] if keys else None,
            input=mirror.privacy.seal_input(call.procedure, call.input),
            actor=asked.actor,
            received=asked.received,
            idempotency=asked.idempotency,
            fingerprint=asked.fingerprint,
            keep_until=asked.keep_until,
            deadline=now + mirror.max_request,
        )

    def _settlement(self, call: Call, outcome: CallOutcome, *, answered: bool) -> Settlement:
        intent, now = self._intents[call.index], self._mirror.clock()
        recorded = unproven(outcome, answered=answered)
        if recorded is not None:
            return Settlement(intent, recorded[0], now, detail=recorded[1])
        return self._mirror.judges.judge(call, output_of(outcome), intent=intent, now=now, actor=self._asked.actor)


def _without_events(settlement: Settlement) -> Settlement:
    if not settlement.drafts:
        return settlement
    return Settlement(settlement.intent, Outcome.IN_DOUBT, settlement.at, detail="contract:unrecordable")


def _spool_ends(news: Sequence[tuple[Call, CallOutcome]], reads: Collection[int], *, answered: bool) -> list[SpoolEnd]:
    return [
        SpoolEnd(call.index, "not_applied", None, "query")
        if call.index in reads
        else spool_end(call.index, outcome, answered=answered)
        for call, outcome in news
    ]
