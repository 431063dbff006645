"""What became of calls that nobody answered: found out from the legacy itself, with no operator.

A call is in doubt when a timeout, a reset, a crash or an answer that proves nothing leaves its intent without an
outcome. It keeps its entities' locks, so that their other writers wait; in the meantime the resolver

1. makes the doubt durable, if the crash or the log's own trouble had not left time for it;
2. waits until the call can no longer apply: the contract's `max_request` after it was forwarded at the latest, unless
   an answer shows that it has ended;
3. reads the entities from the legacy (`proxy.inquiry`), and decides what that proves: `proxy.verdict` for entities
   whose keys are known, `proxy.births` for those that a create may have made, `proxy.conclusion` for the call;
4. settles: the owed events, nothing, or a correction that records what was found, and lets the locks go.

What cannot be read (no query in the contract, a refusal) is quarantined: it stays in doubt and visible, is looked at
again now and then, and blocks nobody. While the legacy is away the resolver asks again, ever more slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import structlog

from proxy.births import Candidate, Create, attribute, create_of
from proxy.conclusion import Case, Conclusions
from proxy.creations import Creation, Creations
from proxy.inquiry import Inquiry, MovedOn
from proxy.reading import LegacyAway, LegacyReader, ReadRefused
from proxy.verdict import CannotTell, Look, may_run_until, may_still_run, undone
from shadow.contract import Contract, Entity, ExpressionError
from shadow.contract.rules import EventRule, KeysOf
from shadow.errors import DraftRefused, LogUnavailable
from shadow.events import Effect, EntityKey
from shadow.faults import Point, reach
from shadow.journal import QUARANTINED, UNSETTLED, Intent, Outcome, Settlement
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.secrets import UnsealError
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the resolver waits for what, in seconds."""

    first: float = 0.2
    longest: float = 5.0
    """Between two tries while the legacy or the log is away."""
    quarantine: float = 60.0
    """Between two looks at what is in quarantine."""
    refusals: int = 6
    """How often the legacy may answer with an error before the doubt goes into quarantine."""


@dataclass(frozen=True, slots=True)
class Left:
    """A call that was left behind without an outcome, with the locks (`keys`) and the creation that go with it.

    `owed` is its settlement where only the log was in the way of it.
    """

    intent: int
    procedure: str
    phase: str | None
    received: int
    reason: str
    keys: tuple[EntityKey, ...] = ()
    creation: Creation | None = None
    owed: Settlement | None = None


@dataclass(slots=True)
class _Doubt:
    left: Left
    seen: asyncio.Event
    """Set when it was settled, or could not be."""
    quarantined: str | None = None
    released: bool = False
    wanted: list[Create] | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How many doubts there are, how many of them are in quarantine, and since when the oldest one waits."""

    doubts: int
    quarantined: int
    oldest: int | None


class Doubts:
    """The doubts of one proxy, each seen through by a task of its own."""

    def __init__(
        self,
        *,
        contract: Contract,
        log: Log,
        reader: LegacyReader,
        locks: EntityLocks,
        creations: Creations,
        keys_of: KeysOf,
        clock: Callable[[], int],
        new_id: Callable[[], str],
        privacy: Privacy | None = None,
        patience: Patience | None = None,
        at_once: int = 8,
        caught_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._contract = contract
        self._log = log
        self._locks = locks
        self._creations = creations
        self._keys_of = keys_of
        self._clock = clock
        self._inquiry = Inquiry(contract, log, reader, creations, privacy, caught_up)
        self._conclusions = Conclusions(self._inquiry.state, keys_of, clock, new_id, privacy)
        self._patience = patience or Patience()
        self._looking = asyncio.Semaphore(at_once)
        self._turns = EntityLocks()
        self._held: dict[EntityKey, set[int]] = {}
        self._open: dict[int, _Doubt] = {}
        self._tasks = Tasks()

    @property
    def standing(self) -> Standing:
        """Return how many doubts there are now."""
        oldest = min((doubt.left.received for doubt in self._open.values()), default=None)
        return Standing(len(self._open), sum(1 for doubt in self._open.values() if doubt.quarantined), oldest)

    @property
    def holds_up(self) -> bool:
        """Tell whether others may be waiting for a doubt to be resolved."""
        return any(not doubt.released for doubt in self._open.values())

    async def recover(self) -> int:
        """Take over what the last process left: its open intents become doubts. Call it before any call is taken.

        Returns how many doubts there are; their entities are locked when this returns.
        """
        found = await asyncio.to_thread(self._log.intents, UNSETTLED)
        left = [intent for intent in found if intent.id not in self._open]
        crashed = [intent for intent in left if intent.outcome is Outcome.OPEN]
        now = self._clock()
        for first in range(0, len(crashed), 500):
            part = crashed[first : first + 500]
            await self._log.settle([Settlement(each.id, Outcome.IN_DOUBT, now, detail="crash") for each in part])
        for intent in left:
            await self._recover(intent)
        return len(left)

    def leave(self, left: Left) -> asyncio.Event:
        """See a call through that was left behind; takes over its locks and its creation.

        Returns what is set when the call was settled, or put aside.
        """
        self._open[left.intent] = doubt = _Doubt(left, asyncio.Event())
        if left.creation is not None and not _is_known(left):
            left.creation.park()
        for key in left.keys:
            self._held.setdefault(key, set()).add(left.intent)
        self._tasks.spawn(self._see_through(doubt), name="doubt")
        return doubt.seen

    async def adopt(self, intent: int) -> None:
        """See a call through that the log has in doubt and nobody holds anything for."""
        found = await asyncio.to_thread(self._log.intent, intent)
        if found is not None and found.outcome in UNSETTLED and found.id not in self._open:
            await self._recover(found)

    def never_sent(self, request: str) -> None:
        """Settle the intents of a request that was refused because the log did not say whether it has them."""
        self._tasks.spawn(self._disown(request), name="never_sent")

    async def close(self) -> None:
        """Stop looking; what is still in doubt stays so in the journal, for the next start."""
        await self._tasks.cancel()

    async def _disown(self, request: str) -> None:
        delay = self._patience.first
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._patience.longest)
            with suppress(Exception):  # whatever it is, the next start would find the intents
                left = await asyncio.to_thread(self._log.open_intents)
                mine = [intent.id for intent in left if intent.request == request]
                now = self._clock()
                await self._log.settle(
                    [Settlement(intent, Outcome.NOT_APPLIED, now, detail="never_sent") for intent in mine]
                )
                return

    # --- one doubt's way ---------------------------------------------------------------------------------------

    async def _recover(self, intent: Intent) -> None:
        rule = self._contract.mutations.get(intent.procedure)
        keys: tuple[EntityKey, ...] = ()
        creation = None
        if rule is not None:
            try:
                given = self._inquiry.opened(intent)
                keys = rule.keys_before(given, intent.received, self._keys_of)
                kinds = {made.entity.name for made in rule.unnamed(given, intent.received) if made.entity}
                creation = self._creations.begin(kinds) if kinds else None
            except (ExpressionError, UnsealError):
                pass  # it will be quarantined, and says why
        keys = tuple(key for key in keys if key in self._held or self._locks.take_free([key]))
        reason = intent.detail or "crash"
        received = intent.received
        self.leave(Left(intent.id, intent.procedure, intent.phase, received, reason, keys, creation))

    async def _see_through(self, doubt: _Doubt) -> None:
        delay, refusals = self._patience.first, 0
        try:
            while True:
                try:
                    await self._resolve(doubt)
                    return
                except (LogUnavailable, MovedOn):
                    pass
                except LegacyAway as away:
                    refusals += away.answered
                    if refusals >= self._patience.refusals:
                        delay = await self._quarantine(doubt, f"unread:{away}")
                except (CannotTell, ReadRefused) as error:
                    delay = await self._quarantine(doubt, str(error))
                except ExpressionError as error:
                    delay = await self._quarantine(doubt, f"contract:{error.key}")
                except DraftRefused:
                    delay = await self._quarantine(doubt, "unrecordable")
                except Exception as error:  # a defect of ours, or a database that cannot even be read, ends no doubt
                    logger.exception("doubt_failed", intent=doubt.left.intent)
                    delay = await self._quarantine(doubt, f"failed:{type(error).__name__}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, max(self._patience.longest, delay))
        finally:
            self._open.pop(doubt.left.intent, None)
            self._let_go(doubt)
            doubt.seen.set()

    async def _resolve(self, doubt: _Doubt) -> None:
        """Settle one doubt, or raise what is in the way."""
        left = doubt.left
        if left.owed is not None:
            await self._log.settle([left.owed])
            if _is_known(left):
                return
            doubt.left = left = replace(left, owed=None)
        intent = await asyncio.to_thread(self._log.intent, left.intent)
        if intent is None or intent.outcome not in UNSETTLED:
            return
        doubted = intent.settled_at
        if intent.outcome is Outcome.OPEN or doubted is None:
            doubted = self._clock()
            await self._log.settle([Settlement(intent.id, Outcome.IN_DOUBT, doubted, detail=left.reason)])
        if may_still_run(left.reason):
            until = may_run_until(intent.deadline, round(self._contract.legacy.max_request * 1000), doubted)
            await asyncio.sleep(max(0, until - self._clock()) / 1000)
        reach(Point.DOUBT_RIPE)
        async with self._looking:
            settlement = await self._settle(doubt, intent)
        reach(Point.DOUBT_SETTLED)
        logger.info(
            "doubt_resolved",
            intent=intent.id,
            procedure=intent.procedure,
            outcome=settlement.outcome.value,
            why=settlement.detail,
            seconds=(self._clock() - intent.received) / 1000,
        )

    async def _settle(self, doubt: _Doubt, intent: Intent) -> Settlement:
        if intent.phase is None:
            settlement = Settlement(intent.id, Outcome.OBSERVED, self._clock(), detail="unmapped")
            await self._log.settle([settlement])
            return settlement
        case = self._inquiry.case_of(intent)
        rule = case.rule
        keys = rule.keys_before(case.input, intent.received, self._keys_of)
        made = [event for event in rule.unnamed(case.input, intent.received) if event.entity and event.entity.list]
        kinds = [EntityKey("@creates", event.entity.name) for event in made if event.entity]
        finding = () if rule.find is None else (EntityKey("@finds", rule.procedure),)
        async with self._turns.hold([*keys, *kinds, *finding]):
            return await self._found(case) or await self._examine(doubt, case, keys, made)

    async def _found(self, case: Case) -> Settlement | None:
        """Settle by what the rule's `find` finds: the first answer that tells of something the log does not know."""
        if case.rule.find is None:
            return None
        answers = await self._inquiry.answers(case)
        reach(Point.DOUBT_SEEN)
        for output in answers:
            drafts = self._conclusions.decided(case, output) or ()
            new = {draft.entity for draft in drafts if draft.entity and draft.effect in {Effect.CREATE, Effect.PUT}}
            if not new or any(self._inquiry.knows(key) for key in new):
                continue
            async with self._locked(new):
                settlement = Settlement(case.intent.id, Outcome.APPLIED, self._clock(), drafts, detail="found")
                await self._log.settle([settlement])
            return settlement
        return None

    async def _examine(
        self, doubt: _Doubt, case: Case, keys: Sequence[EntityKey], made: Sequence[EventRule]
    ) -> Settlement:
        inquiry = self._inquiry
        before = {key: inquiry.position(key) for key in keys}
        looks = [await inquiry.look(case, key) for key in keys if inquiry.readable(key)]
        doubt.wanted = [create_of(event, case.input, case.intent) for event in made]
        strangers = {want.entity.name: await self._strangers(want.entity) for want in doubt.wanted}
        if not looks and not strangers and case.rule.find is None:
            raise CannotTell("unreadable")
        if before != {key: inquiry.position(key) for key in keys}:
            raise MovedOn
        if made:
            await self._learn_of_others()
        reach(Point.DOUBT_SEEN)
        births = [
            attribute(want, self._others(doubt, want.entity), strangers[want.entity.name])
            for want in doubt.wanted or ()
        ]
        births = [
            birth._replace(found=[await inquiry.whole(birth.want.entity, one) for one in birth.found])
            for birth in births
        ]
        async with self._locked([EntityKey(want.entity.name, it.key) for want, found, _ in births for it in found]):
            superseded = any(self._hidden(case, look) for look in looks)
            settlement = self._conclusions.settle(case, looks, births, superseded=superseded)
            await self._log.settle([settlement])
        return settlement

    async def _strangers(self, entity: Entity) -> list[Candidate]:
        """Return what a create may have made: what is locked was named by some call before it was there."""
        found = await self._inquiry.strangers(entity)
        return [one for one in found if not self._locks.held(EntityKey(entity.name, one.key))]

    def _hidden(self, case: Case, look: Look) -> bool:
        """Tell whether another call may have hidden what this one did to an entity."""
        if self._inquiry.superseded(case.intent, look.key):
            return True
        others = self._inquiry.others(case.intent, look.key, self._keys_of)
        return undone(look, case.change(look.key), [other.change(look.key) for other in others])

    async def _learn_of_others(self) -> None:
        """Find out what the other creates in doubt would have made: what we found may be theirs."""
        for other in list(self._open.values()):
            if other.wanted is not None or other.left.creation is None:
                continue
            intent = await asyncio.to_thread(self._log.intent, other.left.intent)
            rule = self._contract.mutations.get(other.left.procedure)
            if intent is not None and rule is not None:
                given = self._inquiry.opened(intent)
                other.wanted = [create_of(event, given, intent) for event in rule.unnamed(given, intent.received)]

    def _others(self, doubt: _Doubt, entity: Entity) -> list[Create]:
        """Return what the other creates in doubt would have made of a kind, the earlier ones first."""
        return [
            wanted
            for _, other in sorted(self._open.items())
            if other is not doubt
            for wanted in other.wanted or ()
            if wanted.entity.name == entity.name
        ]

    # --- quarantine and locks ----------------------------------------------------------------------------------

    async def _quarantine(self, doubt: _Doubt, reason: str) -> float:
        """Let the entity's other writers pass, note why, and return how long to leave the doubt alone."""
        if doubt.quarantined != reason:
            doubt.quarantined = reason
            logger.warning("doubt_quarantined", intent=doubt.left.intent, procedure=doubt.left.procedure, reason=reason)
            note = Settlement(doubt.left.intent, Outcome.IN_DOUBT, self._clock(), detail=QUARANTINED + reason)
            try:
                await self._log.settle([note])
            except LogUnavailable:
                doubt.quarantined = None
        self._let_go(doubt)
        doubt.seen.set()
        return self._patience.quarantine

    def _let_go(self, doubt: _Doubt) -> None:
        if doubt.released:
            return
        doubt.released = True
        for key in doubt.left.keys:
            holders = self._held[key]
            holders.discard(doubt.left.intent)
            if not holders:
                del self._held[key]
                self._locks.release((key,))
        if doubt.left.creation is not None:
            doubt.left.creation.end()

    @asynccontextmanager
    async def _locked(self, keys: Iterable[EntityKey]) -> AsyncIterator[None]:
        """Hold the locks of entities found by listing; raises `MovedOn` when somebody was faster."""
        wanted = [key for key in keys if key not in self._held]
        async with self._locks.hold(wanted):
            if any(self._inquiry.knows(key) for key in wanted):
                raise MovedOn
            yield


def _is_known(left: Left) -> bool:
    """Tell whether only the log is in the way: then what a create made must not be given to another."""
    return left.owed is not None and left.owed.outcome is not Outcome.IN_DOUBT
