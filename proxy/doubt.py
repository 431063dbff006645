"""What became of calls that nobody answered: found out from the legacy itself, with no operator.

A call is in doubt when a timeout, a reset, a crash or an answer that proves nothing leaves its intent without an
outcome. It keeps its entities' locks, so that their other writers wait; in the meantime the resolver

1. makes the doubt durable, if the crash or the log's own trouble had not left time for it;
2. waits until the call can no longer apply: the contract's `max_request` after it came in, unless an answer shows that
   it has ended;
3. reads the entities from the legacy, and decides by `proxy.verdict`;
4. settles: the owed events, nothing, or a correction that records what was found, and lets the locks go.

What cannot be read (no query in the contract, a refusal) is quarantined: it stays in doubt and visible, is looked at
again now and then, and blocks nobody. While the legacy is away the resolver asks again, ever more slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from proxy.creations import Creation, Creations
from proxy.reading import Found, LegacyAway, LegacyReader, ReadRefused
from proxy.verdict import (
    SKEW,
    Candidate,
    Create,
    Fields,
    Look,
    Sign,
    correction,
    differs,
    may_still_run,
    pair,
    sign,
    verdict,
)
from shadow.contract import Contract, Entity, ExpressionError, Rule
from shadow.contract.rules import BEFORE, EventRule, KeysOf
from shadow.errors import LogUnavailable
from shadow.events import Draft, Effect, EntityKey
from shadow.faults import Point, reach
from shadow.journal import QUARANTINED, UNSETTLED, Intent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.secrets import UnsealError
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)

MOST_STRANGERS = 20
"""Unknown entities that one create in doubt may bring into the log; with more it is quarantined."""


class CannotTell(Exception):
    """The doubt cannot be resolved as things are; the message is a short code."""


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
        self._reader = reader
        self._locks = locks
        self._creations = creations
        self._keys_of = keys_of
        self._clock = clock
        self._new_id = new_id
        self._privacy = privacy
        self._patience = patience or Patience()
        self._looking = asyncio.Semaphore(at_once)
        self._caught_up = caught_up
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
        if left.creation is not None:
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
                given = self._opened(intent)
                keys = rule.keys_before(given, intent.received, self._keys_of)
                kinds = {made.entity.name for made in unnamed(rule, given, intent.received) if made.entity}
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
                except (LogUnavailable, _MovedOn):
                    pass
                except LegacyAway as away:
                    refusals += away.answered
                    if refusals >= self._patience.refusals:
                        delay = await self._quarantine(doubt, f"unread:{away}")
                except (CannotTell, ReadRefused) as error:
                    delay = await self._quarantine(doubt, str(error))
                except ExpressionError as error:
                    delay = await self._quarantine(doubt, f"contract:{error.key}")
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
            return
        intent = await asyncio.to_thread(self._log.intent, left.intent)
        if intent is None or intent.outcome not in UNSETTLED:
            return
        if intent.outcome is Outcome.OPEN:
            await self._log.settle([Settlement(intent.id, Outcome.IN_DOUBT, self._clock(), detail=left.reason)])
        if may_still_run(left.reason) and (ms := intent.deadline - self._clock()) > 0:
            await asyncio.sleep(ms / 1000)
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
        rule = self._contract.mutations.get(intent.procedure)
        if rule is None:
            raise CannotTell("no_rule")
        case = _Case(intent, rule, self._opened(intent))
        keys = rule.keys_before(case.input, intent.received, self._keys_of)
        made = [event for event in unnamed(rule, case.input, intent.received) if event.entity and event.entity.list]
        kinds = [EntityKey("@creates", event.entity.name) for event in made if event.entity]
        finding = () if rule.find is None else (EntityKey("@finds", rule.procedure),)
        async with self._turns.hold([*keys, *kinds, *finding]):
            return await self._found(case) or await self._examine(doubt, case, keys, made)

    async def _found(self, case: _Case) -> Settlement | None:
        """Settle by what the rule's `find` finds: the first answer that tells of something the log does not know."""
        rule, intent = case.rule, case.intent
        if rule.find is None:
            return None
        answer = await self._reader.query(rule.find.query, rule.find.input_for(case.input))
        outputs = rule.find.outputs(case.input, answer, intent.received - SKEW)
        await self._told_of({event.entity.name for event in rule.events if event.entity})
        reach(Point.DOUBT_SEEN)
        for output in outputs:
            drafts = self._decided(case, output) or ()
            new = {draft.entity for draft in drafts if draft.entity and draft.effect in {Effect.CREATE, Effect.PUT}}
            if not new or any(self._log.state(key) is not None for key in new):
                continue
            async with self._locked(new):
                settlement = Settlement(intent.id, Outcome.APPLIED, self._clock(), drafts, detail="found")
                await self._log.settle([settlement])
            return settlement
        return None

    async def _examine(
        self, doubt: _Doubt, case: _Case, keys: Sequence[EntityKey], made: Sequence[EventRule]
    ) -> Settlement:
        before = {key: self._position(key) for key in keys}
        looks = [await self._look(case, key) for key in keys if self._readable(key)]
        doubt.wanted = [create_of(event, case.input, case.intent) for event in made]
        strangers = {want.entity.name: await self._strangers(doubt, want) for want in doubt.wanted}
        if not looks and not strangers and case.rule.find is None:
            raise CannotTell("unreadable")
        if before != {key: self._position(key) for key in keys}:
            raise _MovedOn
        if made:
            await self._learn_of_others()
        reach(Point.DOUBT_SEEN)
        births = [self._attributed(doubt, want, strangers[want.entity.name]) for want in doubt.wanted or ()]
        births = [
            birth._replace(found=[await self._whole(birth.want.entity, one) for one in birth.found]) for birth in births
        ]
        async with self._locked([EntityKey(want.entity.name, it.key) for want, found, _ in births for it in found]):
            settlement = self._settlement(case, looks, births)
            await self._log.settle([settlement])
        return settlement

    def _settlement(self, case: _Case, looks: Sequence[Look], births: Sequence[_Birth]) -> Settlement:
        intent = case.intent
        superseded = any(self._superseded(intent, look.key) for look in looks)
        signs = [sign(look) for look in looks] + [birth.sign for birth in births] or [Sign.NOT_APPLIED]
        outcome, why = verdict(signs, superseded=superseded)
        drafts: tuple[Draft, ...] = ()
        if outcome is Outcome.APPLIED:
            owed = self._owed(case, births)
            if owed is None:
                outcome, why = Outcome.OBSERVED, "as_found"
            drafts = owed or ()
        if outcome is Outcome.OBSERVED:
            drafts = tuple(self._corrections(case, looks, births))
        return Settlement(intent.id, outcome, self._clock(), drafts, detail=why)

    def _owed(self, case: _Case, births: Sequence[_Birth]) -> tuple[Draft, ...] | None:
        """Return the events that the call owes; None when they cannot be made without its answer."""
        items = [candidate for birth in births for candidate in birth.found]
        drafts = self._decided(case, items[0].item if items else None)
        named = {draft.entity for draft in drafts or ()}
        if any(EntityKey(want.entity.name, one.key) not in named for want, found, _ in births for one in found):
            return None
        return drafts

    def _decided(self, case: _Case, output: Json) -> tuple[Draft, ...] | None:
        """Return the call's events if this was its answer, as the log may keep them."""
        intent = case.intent
        try:
            drafts = case.rule.decide(
                case.input,
                output,
                self._state,
                self._clock(),
                self._new_id,
                cause=f"intent:{intent.id}",
                actor=intent.actor,
                keys_of=self._keys_of,
            )
        except ExpressionError:
            return None
        if self._privacy is None:
            return drafts
        return self._privacy.seal_drafts(intent.procedure, case.input, output, drafts)

    def _corrections(self, case: _Case, looks: Sequence[Look], births: Sequence[_Birth]) -> Iterator[Draft]:
        found = [
            Look(want.entity, EntityKey(want.entity.name, one.key), None, None, one.fields, frozenset(one.fields))
            for want, strangers, _ in births
            for one in strangers
        ]
        for look in [*(look for look in looks if differs(look)), *found]:
            draft = correction(
                look,
                cause=f"doubt:{case.intent.id}",
                channel=self._channel(case, look),
                now=self._clock(),
                id=self._new_id(),
                actor=case.intent.actor,
            )
            yield draft if self._privacy is None else self._privacy.seal_draft(draft)

    def _channel(self, case: _Case, look: Look) -> str:
        """Return the channel on which the contract tells of the entity."""
        values = {"input": case.input, "now": self._clock(), "key": look.key.key, "state": look.before}
        values["output"] = {**(look.found or {}), "id": look.key.key}
        for event in case.rule.events:
            ours = event.entity is not None and event.entity.name == look.key.entity
            if not ours or not event.channel.variables <= values.keys():
                continue
            with suppress(ExpressionError):
                channel = event.value(event.channel, values, "channel")
                if isinstance(channel, str):
                    return channel
        return f"{look.key.entity}:{look.key.key}"

    # --- looking -----------------------------------------------------------------------------------------------

    async def _look(self, case: _Case, key: EntityKey) -> Look:
        entity = self._contract.entities[key.entity]
        found = await self._reader.one(entity, key.key)
        state = self._log.state(key)
        before = self._state(key)
        creates = any(
            event.entity is not None and event.entity.name == key.entity and event.effect is Effect.CREATE
            for event in case.rule.events
        )
        shown = frozenset(entity.fields)
        if entity.get is None and entity.list is not None:
            shown -= entity.list.lacks
        return Look(
            entity,
            key,
            before,
            case.rule.predict(case.input, before, case.intent.received, key),
            None if found is None else found.fields,
            shown,
            known=state is not None or creates,
        )

    async def _strangers(self, doubt: _Doubt, want: Create) -> list[Candidate]:
        """Return the entities that the log does not know and that no call under way is making."""
        kind = want.entity.name
        found = [one async for one in self._listed(want.entity)]
        await self._told_of([kind])
        return [
            Candidate(one.key, one.fields, one.item)
            for one in found
            if self._log.state(EntityKey(kind, one.key)) is None
        ]

    async def _told_of(self, kinds: Iterable[str]) -> None:
        """Wait until the log knows every entity of these kinds that is not made by a create in doubt.

        What was read before may show entities whose creates are under way, or whose events wait in the spool.
        """
        for kind in kinds:
            await self._creations.parked(kind)
        if self._caught_up is not None:
            await self._caught_up()

    async def _listed(self, entity: Entity) -> AsyncIterator[Found]:
        async for one in self._reader.all(entity):
            if self._log.state(EntityKey(entity.name, one.key)) is None:
                yield one

    async def _whole(self, entity: Entity, listed: Candidate) -> Candidate:
        """Return a listed entity with all its fields: a list may show fewer than the single read."""
        if entity.get is None:
            return listed
        found = await self._reader.one(entity, listed.key)
        if found is None:
            raise _MovedOn
        return Candidate(listed.key, found.fields, found.item)

    async def _learn_of_others(self) -> None:
        """Find out what the other creates in doubt would have made: what we found may be theirs."""
        for other in list(self._open.values()):
            if other.wanted is not None or other.left.creation is None:
                continue
            intent = await asyncio.to_thread(self._log.intent, other.left.intent)
            rule = self._contract.mutations.get(other.left.procedure)
            if intent is not None and rule is not None:
                given = self._opened(intent)
                other.wanted = [create_of(event, given, intent) for event in unnamed(rule, given, intent.received)]

    def _attributed(self, doubt: _Doubt, want: Create, strangers: Sequence[Candidate]) -> _Birth:
        """Attribute the strangers to all creates in doubt; return this one's, or what nobody can be attributed to."""
        kind = want.entity.name
        others = [
            wanted
            for number, other in sorted(self._open.items())
            if other is not doubt
            for wanted in other.wanted or ()
            if wanted.entity.name == kind
        ]
        pairs = pair([want, *others], strangers)
        if want.intent in pairs:
            return _Birth(want, [pairs[want.intent]], Sign.APPLIED)
        taken = {candidate.key for candidate in pairs.values()}
        fresh = [one for one in strangers if one.key not in taken and Create.made(_anything(want), one)]
        if not want.guessed or not fresh:
            return _Birth(want, [], Sign.NOT_APPLIED)
        if len(fresh) > MOST_STRANGERS:
            raise CannotTell("unidentified")
        return _Birth(want, fresh, Sign.OTHER)

    def _superseded(self, intent: Intent, key: EntityKey) -> bool:
        state = self._log.state(key)
        event = None if state is None else self._log.event(state.position)
        cause = "" if event is None else event.draft.cause or ""
        kind, _, number = cause.partition(":")
        return kind in {"intent", "doubt"} and number.isdigit() and int(number) > intent.id

    def _readable(self, key: EntityKey) -> bool:
        entity = self._contract.entities[key.entity]
        return entity.get is not None or entity.list is not None

    def _position(self, key: EntityKey) -> int:
        state = self._log.state(key)
        return 0 if state is None else state.position

    def _state(self, key: EntityKey) -> Fields | None:
        """Return an entity's state in clear."""
        state = self._log.state(key)
        if state is None or state.fields is None or self._privacy is None:
            return None if state is None else state.fields
        opened: Fields = self._privacy.open_fields(key, state.fields)
        return opened

    def _opened(self, intent: Intent) -> Json:
        return intent.input if self._privacy is None else self._privacy.open_input(intent.procedure, intent.input)

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
        """Hold the locks of entities found by listing; raises `_MovedOn` when somebody was faster."""
        wanted = [key for key in keys if key not in self._held]
        async with self._locks.hold(wanted):
            if any(self._log.state(key) is not None for key in wanted):
                raise _MovedOn
            yield


class _MovedOn(Exception):
    """Something changed while we were looking: look again."""


@dataclass(frozen=True, slots=True)
class _Case:
    """An intent in doubt with its rule and its input in clear."""

    intent: Intent
    rule: Rule
    input: Json


class _Birth(NamedTuple):
    """What became of a create: the entity that it made, or, with `Sign.OTHER`, those that it may have made."""

    want: Create
    found: Sequence[Candidate]
    sign: Sign


def unnamed(rule: Rule, given: Json, now: int) -> tuple[EventRule, ...]:
    """Return the events of a call that bring an entity into being whose key only the answer tells."""
    return tuple(event for event in rule.events if _is_unnamed(event, {"input": given, "now": now, "item": None}))


def create_of(event: EventRule, given: Json, intent: Intent) -> Create:
    """Return what the entity that a create in doubt would have made looks like."""
    assert event.entity is not None
    entity = event.entity
    source = event.data if event.change is None else event.change
    values: dict[str, Json] = {"input": given, "now": intent.received, "item": None, "state": None}
    shape, guessed = given, True
    if source.variables <= values.keys():
        with suppress(ExpressionError):
            shape, guessed = event.value(source, values, "set"), False
    fields = entity.comparable(entity.change_from(shape)) if isinstance(shape, dict) else {}
    hidden = entity.list.lacks if entity.list is not None else frozenset()
    wanted = {name: value for name, value in fields.items() if name not in hidden}
    return Create(intent.id, entity, intent.received, wanted, guessed)


def _is_unnamed(event: EventRule, values: dict[str, Json]) -> bool:
    if event.entity is None or event.key is None or event.effect in {Effect.NONE, Effect.DELETE, Effect.PATCH}:
        return False
    if event.key.variables <= BEFORE:
        return False
    try:
        return event.when is None or not event.when.variables <= BEFORE or event.holds(values)
    except ExpressionError:
        return False


def _anything(want: Create) -> Create:
    """Return a create at the same time that could have made any entity of the kind."""
    return Create(want.intent, want.entity, want.received, {}, guessed=True)
