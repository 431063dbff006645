"""Phases that go on while the log cannot be written: forwarded, spooled, and shipped in order when the log is back.

From the first call that the log did not take until everything is shipped, every call of such a phase goes through the
spool, so that nothing overtakes. A call is in the spool before it is forwarded and again when its outcome is known,
each time durably; entity locks are held in between, so the spool has each entity's calls in the legacy's order. A
call in doubt keeps its locks until it is shipped, and hands them on to `proxy.doubt` then: nothing on its entities
comes after it. The events are decided when they are shipped, by the state as it is then. The last calls are shipped
behind the closed fence. A call's events have ids that its place in the spool gives, so shipping it again appends
nothing.

For the time the phase is *dirty*: the log has an entity `@dirty` of its name, which says from when to when, and how
many calls it was. Until the state was compared again nobody should build on it.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from proxy.doubt import Left
from proxy.fence import Fence, FenceBusy
from proxy.spool import Record, Spool, Spooled, SpoolFull
from shadow import json
from shadow.batch import refuse
from shadow.contract import Contract
from shadow.contract.model import OnLogFailure
from shadow.errors import LogError, LogUnavailable, Trouble
from shadow.events import Draft, Effect, EntityKey
from shadow.faults import Point, reach
from shadow.journal import UNSETTLED, NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.stages import CHANNEL
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)

DIRTY = "@dirty"
"""The entity that tells of a phase's time without a log. No contract can name an entity so."""

FEW = 16
"""So many calls are shipped at once while others go on, before the last ones are shipped behind the closed fence."""

TRIES = 20
"""So often the fence is left open because calls inside wait for one in doubt; then it is closed all the same."""

_NAMES = uuid.UUID("6f9a3a0e-5a1f-4f0e-9d5b-2c6f0f4f7c11")


@dataclass(frozen=True, slots=True)
class Told:
    """A spooled call, opened again: what was asked, and what became of it."""

    intent: NewIntent
    input: Json
    outcome: str
    """`success`, `rejected`, `not_applied` or `in_doubt`."""
    output: Json
    detail: str | None


Judge = Callable[[Told, int, Callable[[], str]], Settlement]
"""Decides the settlement of an intent for a call that succeeded, with these ids for its events."""


class FailOpen:
    """The spool of one proxy, and who ships it."""

    def __init__(
        self,
        spool: Spool,
        *,
        contract: Contract,
        log: Log,
        privacy: Privacy,
        fence: Fence,
        locks: EntityLocks,
        judge: Judge,
        leave: Callable[[Left], asyncio.Event],
        adopt: Callable[[int], Awaitable[None]],
        doubted: Callable[[], bool],
        clock: Callable[[], int],
        pause: float = 0.5,
        patience: float = 5.0,
    ) -> None:
        """Ship, when the log is away, every `pause` seconds; wait up to `patience` seconds until a phase is empty."""
        self._spool = spool
        self._contract = contract
        self._log = log
        self._privacy = privacy
        self._fence = fence
        self._locks = locks
        self._judge = judge
        self._leave = leave
        self._adopt = adopt
        self._doubted = doubted
        self._clock = clock
        self._pause = pause
        self._open = {name for name, phase in contract.phases.items() if phase.on_log_failure is OnLogFailure.FAIL_OPEN}
        self._patience = patience
        self._since: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._kept: dict[int, Left] = {}
        self._given_up: set[int] = set()
        self._moved = asyncio.Event()
        self._closing: asyncio.Timeout | None = None
        self._tasks = Tasks()
        for each in spool.waiting():
            self._note(each.tried.get("phase"), each.tried["received"])

    @property
    def waiting(self) -> int:
        """How many calls wait for the log."""
        return len(self._spool)

    def dirty_since(self, phase: str) -> int | None:
        """Return since when (milliseconds) calls of a phase go through the spool, None when they do not."""
        return self._since.get(phase)

    def allows(self, phases: Iterable[str]) -> bool:
        """Tell whether the contract lets all these phases go on without the log."""
        return self._open.issuperset(phases)

    def spools(self, phases: Iterable[str]) -> bool:
        """Tell whether calls of one of these phases must go through the spool now."""
        return bool(self._since) and not self._since.keys().isdisjoint(phases)

    async def tried(
        self, intents: Sequence[NewIntent], inputs: Sequence[Json], *, begun: Sequence[int] = ()
    ) -> list[int]:
        """Spool calls that are about to be forwarded; durable on return. Raises LogUnavailable when that fails too.

        `begun` are their intents' ids, when the log has these already. What the log would never take is refused as
        the log refuses it, with DraftRefused: once forwarded, it would stand before all that follows.
        """
        for intent in intents:
            refuse(intent)
        records = [self._record(intent, given) for intent, given in zip(intents, inputs, strict=True)]
        for record, id in zip(records, begun, strict=False):
            record["begun"] = id
        try:
            numbers = await asyncio.to_thread(self._spool.tried, records)
        except SpoolFull as error:
            raise LogUnavailable(Trouble.DISK_FULL, f"and neither can the spool: {error}") from error
        reach(Point.SPOOLED)
        for intent in intents:
            self._note(intent.phase, intent.received)
        if not len(self._tasks):
            self._tasks.spawn(self._ship_when_possible(), name="ship")
        return numbers

    async def ended(self, ends: Sequence[tuple[int, str, str, Json, str | None]]) -> None:
        """Spool outcomes as (number, procedure, outcome, output, detail); durable on return, or in doubt for good."""
        records = [
            (number, {"outcome": outcome, "said": self._sealed(procedure, output), "detail": detail})
            for number, procedure, outcome, output, detail in ends
        ]
        try:
            await asyncio.to_thread(self._spool.ended, records)
        except SpoolFull as error:
            self._given_up.update(number for number, _ in records)
            raise LogUnavailable(Trouble.DISK_FULL, f"and neither can the spool: {error}") from error
        reach(Point.SPOOL_ENDED)

    def keep(self, number: int, left: Left) -> None:
        """Keep the locks and the creation of a spooled call of which nobody knows what became, until it is shipped."""
        self._kept[number] = left
        if left.creation is not None:
            left.creation.park()
        self._give_way()

    def leave(self, left: Left) -> asyncio.Event:
        """Let the resolver see a call through that the log has in doubt; returns what the resolver returns."""
        self._give_way()
        return self._leave(left)

    def _give_way(self) -> None:
        """Open the fence again if it is closing: who waits for the call that is now in doubt is inside.

        The call's locks are free only when it was looked into, and that waits until what has ended was shipped.
        """
        if self._closing is not None:
            self._closing.reschedule(asyncio.get_running_loop().time())
            self._closing = None

    async def caught_up(self) -> None:
        """Wait until the log has every spooled call that has ended by now."""
        last = self._spool.last_ended()
        while last is not None and last in self._spool:
            await self._moved.wait()

    async def recover(self) -> int:
        """Ship what the last process left, before any call is taken; returns how much it was."""
        left = len(self._spool)
        if left:
            try:
                await self._ship_all()
            except (LogUnavailable, SpoolFull) as error:
                logger.error("spool_not_shipped", reason=str(error), calls=left)
                self._tasks.spawn(self._ship_when_possible(), name="ship")
        return left

    async def close(self) -> None:
        """Stop shipping; what is not shipped stays in the spool for the next start."""
        await self._tasks.cancel()
        self._spool.close()

    # --- shipping ----------------------------------------------------------------------------------------------

    async def _ship_when_possible(self) -> None:
        tries = 0
        while self._since:
            await asyncio.sleep(self._pause)
            try:
                await self._ship_ended()
                tries += 1
                if (self._kept or self._doubted()) and tries % TRIES:
                    continue  # whoever waits for a call in doubt is inside the fence, and would hold it up
                async with self._closed(sorted(self._since)):
                    await self._ship_all()
            except (LogUnavailable, FenceBusy, TimeoutError, SpoolFull):
                continue

    async def _ship_ended(self) -> None:
        """Ship what has ended while calls go on, until there is little of it.

        Nothing is left out that had ended before: calls may wait inside the fence for a doubt that waits for this.
        """
        while ended := [each for each in self._spool.waiting() if each.ended or each.number in self._given_up]:
            await self._ship(ended[:FEW])
            if len(ended) <= FEW:
                return

    async def _ship_all(self) -> None:
        await self._ship(self._spool.waiting())
        now = self._clock()
        await self._log.append([self._dirt(phase, now) for phase in sorted(self._since)])
        logger.warning("spool_shipped", phases=sorted(self._since), calls=sum(self._counts.values()))
        self._since.clear()
        self._counts.clear()

    async def _ship(self, spooled: Sequence[Spooled]) -> None:
        for each in spooled:
            await self._ship_one(each)
            reach(Point.SHIPPED)
            await asyncio.to_thread(self._spool.shipped, each.number)
            self._let_go(each.number)
            self._given_up.discard(each.number)
            self._moved.set()
            self._moved = asyncio.Event()

    async def _ship_one(self, spooled: Spooled) -> None:
        told = self._opened(spooled)
        ids = (str(uuid.uuid5(_NAMES, f"{self._spool.name}/{spooled.number}/{n}")) for n in itertools.count())
        if await asyncio.to_thread(self._log.find, str(uuid.uuid5(_NAMES, f"{self._spool.name}/{spooled.number}/0"))):
            return
        begun: int | None = spooled.tried.get("begun")
        standing = None if begun is None else await asyncio.to_thread(self._log.intent, begun)
        if standing is not None and standing.outcome not in UNSETTLED:
            return
        (intent,) = (standing.id,) if standing is not None else await self._log.begin([told.intent])
        if told.outcome == "success":
            settlement = self._judge(told, intent, lambda: next(ids))
        else:
            settlement = Settlement(intent, Outcome(told.outcome), self._clock(), detail=told.detail)
        if standing is not None and standing.outcome is Outcome.IN_DOUBT and settlement.outcome is Outcome.REJECTED:
            settlement = replace(settlement, outcome=Outcome.NOT_APPLIED)
        try:
            await self._log.settle([settlement])
        except LogUnavailable:
            raise
        except LogError as error:
            # What the log will never take must not stand before all that follows: the resolver records what is there.
            logger.error("spooled_call_refused", procedure=told.intent.procedure, reason=str(error))
            settlement = Settlement(intent, Outcome.IN_DOUBT, self._clock(), detail="refused")
            await self._log.settle([settlement])
        if settlement.outcome is Outcome.IN_DOUBT:
            await self._leave_in_doubt(spooled.number, intent, settlement.detail or "crash")

    async def _leave_in_doubt(self, number: int, intent: int, reason: str) -> None:
        """Let the resolver see a shipped call through, with what was kept for it."""
        kept = self._kept.pop(number, None)
        if kept is None:
            await self._adopt(intent)
        else:
            self._leave(dataclasses.replace(kept, intent=intent, reason=reason, keys=self._only_for(kept)))

    def _let_go(self, number: int) -> None:
        """Free what was kept for a call that turns out not to be in doubt."""
        kept = self._kept.pop(number, None)
        if kept is not None:
            self._locks.release(self._only_for(kept))
            if kept.creation is not None:
                kept.creation.end()

    def _only_for(self, kept: Left) -> tuple[EntityKey, ...]:
        """Return the keys that no other call of its batch keeps too: the last one of them hands them on."""
        others = {key for other in self._kept.values() for key in other.keys}
        return tuple(key for key in kept.keys if key not in others)

    def _dirt(self, phase: str, now: int) -> Draft:
        change: dict[str, Json] = {"since": self._since[phase], "until": now, "calls": self._counts[phase]}
        return Draft(
            id=str(uuid.uuid4()),
            channel=CHANNEL,
            type="phase-dirty",
            time=now,
            data={"phase": phase, **change},
            entity=EntityKey(DIRTY, phase),
            effect=Effect.PUT,
            change=change,
            cause="spool",
        )

    @asynccontextmanager
    async def _closed(self, phases: Sequence[str]) -> AsyncIterator[None]:
        """Hold the phases empty; raises `FenceBusy`, or TimeoutError when a call is left in doubt meanwhile."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None) as self._closing:
                    for phase in phases:
                        await stack.enter_async_context(self._fence.closed(phase, timeout=self._patience))
            finally:
                self._closing = None
            yield

    # --- records -----------------------------------------------------------------------------------------------

    def _note(self, phase: str | None, received: int) -> None:
        if phase is not None:
            self._since[phase] = min(received, self._since.get(phase, received))
            self._counts[phase] = self._counts.get(phase, 0) + 1

    def _record(self, intent: NewIntent, given: Json) -> Record:
        return {
            "request": intent.request,
            "index": intent.index,
            "procedure": intent.procedure,
            "phase": intent.phase,
            "epoch": intent.stage_epoch,
            "entity": intent.entity_key and list(intent.entity_key),
            "asked": self._sealed(intent.procedure, given),
            "actor": intent.actor,
            "received": intent.received,
            "deadline": intent.deadline,
        }

    def _opened(self, spooled: Spooled) -> Told:
        tried: Mapping[str, Json] = spooled.tried
        ended: Mapping[str, Json] = spooled.ended or {"outcome": "in_doubt", "said": None, "detail": "crash"}
        given = self._unsealed(tried["asked"])
        intent = NewIntent(
            request=tried["request"],
            index=tried["index"],
            procedure=tried["procedure"],
            phase=tried["phase"],
            stage_epoch=tried["epoch"],
            entity_key=None if tried["entity"] is None else EntityKey(*tried["entity"]),
            input=self._privacy.seal_input(tried["procedure"], given),
            actor=tried["actor"],
            received=tried["received"],
            deadline=tried["deadline"],
        )
        said = ended["said"]
        output = None if said is None else self._unsealed(said)
        return Told(intent, given, ended["outcome"], output, ended["detail"])

    def _sealed(self, procedure: str, value: Json) -> str:
        return base64.b64encode(self._privacy.seal_answer([procedure], json.encode(value))).decode()

    def _unsealed(self, text: str) -> Json:
        return json.decode(self._privacy.open_answer(base64.b64decode(text)))
