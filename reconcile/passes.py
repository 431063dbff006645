"""Every entity of a kind compared exactly, without stopping anybody.

For each kind of entity there are two passes. The first reads the legacy's list page by page and proves most keys
equal with one look at the log for some pages. What it could not prove goes to the second pass, key by key, with
retries. Keys that only the log knows go there too. Nothing is called a difference unless the log stood still around
the read (`reconcile.compare.decide`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias

from reconcile.checkpoint import Checkpoint
from reconcile.compare import (
    Comparison,
    Facts,
    Fields,
    Match,
    Mismatch,
    Retry,
    Rules,
    Unverified,
    Verdict,
    compare,
    decide,
    differences,
)
from reconcile.compare import Difference as FieldDifference
from reconcile.errors import QueryFailed, QueryRefused
from reconcile.evidence import Moment, Reading, stirred, surroundings
from reconcile.legacy import EntityKind, Traversal
from shadow import json
from shadow.events import EntityKey

SETTLING: Final = 0.05
"""Seconds before a key is looked at again; doubles with each attempt."""
STREAMING: Final = 0.5
"""Seconds between two looks at what a stream may be writing."""
LOOK: Final = 0.01
"""Seconds for which pages may come in before the log is looked at; one that takes longer has a look of its own.

What was written since the look before has to be compared again, so the time between two is short."""
AT_ONCE: Final = 400
"""Keys for which the log is looked at without waiting for more pages; a single page may have more."""
SAME: Final = Comparison(())
PATIENCE: Final = 5
"""How often an open intent is asked again which keys it touched."""
FATAL: Final = frozenset({"UNAUTHORIZED", "FORBIDDEN", "HTTP 401", "HTTP 403", "NO_PROCEDURE"})
"""Refusals that no other key would escape."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one kind of entity needs to be compared."""

    kind: EntityKind
    phase: str
    rules: Rules = field(default_factory=Rules)
    comparable: Callable[[Fields], Fields] = dict
    """From the log's fields to what can be compared with the legacy's."""
    keyless: frozenset[str] = frozenset()
    """Procedures that may touch entities of this kind under keys that their intents do not name."""
    streamed: bool = False
    """Subscriptions write entities of this kind too. They have no intent, so a difference has to be seen twice."""


@dataclass(frozen=True, slots=True)
class Method:
    """How a run goes about it. `today` is an ISO date."""

    today: str
    sample: int | None = None
    """Compare so many keys of each kind, chosen at random among those that the log has."""
    seed: int = 0
    attempts: int = 6
    together: int = 16
    """How many keys are read between two looks at the log."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come; given to the callback again and again."""

    entity: str
    planned: int
    checked: int
    differing: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A confirmed difference of one entity, exact at `position`."""

    key: str
    position: int
    comparison: Comparison
    legacy: Fields | None


@dataclass(slots=True)
class Tally:
    """What is known so far about one kind of entity."""

    planned: int = 0
    equal: list[str] = field(default_factory=list)
    """The keys that were found equal."""
    in_one_look: int = 0
    differing: list[Difference] = field(default_factory=list)
    unverified: dict[str, Unverified] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    volatile: Counter[str] = field(default_factory=Counter)
    untold: int = 0
    """Secrets that could not be compared for want of the key."""
    stuck: bool = False

    @property
    def matched(self) -> int:
        """How many keys were found equal."""
        return len(self.equal)

    @property
    def checked(self) -> int:
        """How many keys have their verdict."""
        return self.matched + len(self.differing) + len(self.unverified)


Sight: TypeAlias = tuple[int, tuple[FieldDifference, ...]]
"""Where a difference was seen, and what it was."""


@dataclass(frozen=True, slots=True)
class Look:
    """One read of the legacy for one key, between two looks at the log."""

    legacy: Fields | None
    before: Moment
    after: Reading
    failure: str | None = None


class Source(Protocol):
    """What the passes ask of the log; `Evidence` is the real one. Its methods block."""

    def moment(self) -> Moment:
        """Return where the log stands now."""

    def reading(self, entity: str, keys: Sequence[str], since: Moment) -> Reading:
        """Return the projected states of `keys` and everything begun `since`."""

    def keys(self, entity: str) -> Iterable[list[str]]:
        """Return the keys of all entities of a kind that are there."""

    def unlisted(self, entity: str, listed: AbstractSet[str], there: int, position: int) -> list[str]:
        """Return the keys of all entities of a kind that are there and not `listed`.

        `there` of those listed were there while the log stood at `position`.
        """

    def touched(self, ids: Sequence[int]) -> tuple[frozenset[int], Mapping[EntityKey, int]]:
        """Return which of these intents are unsettled, and which keys the others touched."""


class Shows(Protocol):
    """What the passes ask of the legacy; `Legacy` is the real one."""

    def pages(self, kind: EntityKind, traversal: Traversal) -> AsyncIterator[Mapping[str, Fields]]:
        """Yield the list of a kind page by page, each key once; `traversal.seen` has all of them in the end."""

    async def one(self, kind: EntityKind, key: str) -> Fields | None:
        """Return the fields of one entity, None when there is none."""


class Passes:
    """Compares what plans name. The log is read in threads, so the event loop stays free."""

    def __init__(
        self,
        legacy: Shows,
        evidence: Source,
        method: Method,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[Progress], None] = lambda _: None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._legacy = legacy
        self._evidence = evidence
        self._method = method
        self._sleep = sleep
        self._clock = clock
        self._progress = progress
        self._checkpoint = checkpoint

    def over(self, evidence: Source) -> Passes:
        """Return the same passes over another log; they tell nobody how far they are."""
        return Passes(self._legacy, evidence, self._method, sleep=self._sleep, clock=self._clock)

    def sampling(self, size: int) -> Passes:
        """Return the same passes with samples of another size."""
        method = replace(self._method, sample=size)
        return Passes(self._legacy, self._evidence, method, sleep=self._sleep, clock=self._clock)

    async def compare_all(self, plan: Plan) -> Tally:
        """Compare every entity of a kind that the legacy lists or the log has."""
        tally = Tally()
        suspects = await self._first_pass(plan, tally) if plan.kind.listing else await self._logged(plan.kind.name)
        tally.planned += len(suspects)
        await self._second_pass(plan, suspects, tally)
        return tally

    async def compare_sample(self, plan: Plan) -> Tally:
        """Compare some of the entities that the log has, chosen at random by the seed."""
        return await self.compare_keys(plan, await self.sampled(plan))

    async def sampled(self, plan: Plan) -> list[str]:
        """Choose as many of the entities that the log has as the method says."""
        wanted = self._method.sample or 0
        everything = await self._logged(plan.kind.name)
        # A seed makes a run repeatable; nothing secret hangs on it.
        return sorted(random.Random(self._method.seed).sample(everything, min(wanted, len(everything))))  # noqa: S311

    async def compare_keys(self, plan: Plan, keys: Sequence[str]) -> Tally:
        """Compare these entities only."""
        tally = Tally(planned=len(keys))
        await self._second_pass(plan, keys, tally)
        return tally

    async def calibrate(self, plan: Plan) -> frozenset[str]:
        """Read some entities twice and return the fields in which the legacy disagrees with itself.

        Only entities count that nothing happened to meanwhile, as far as the log knows.
        """
        keys = await self.sampled(plan)
        learnt: set[str] = set()
        for group in self._groups(plan.kind, keys):
            before = await asyncio.to_thread(self._evidence.moment)
            first = await self._read(plan.kind, group)
            second = await self._read(plan.kind, group)
            after = await asyncio.to_thread(self._evidence.reading, plan.kind.name, group, before)
            moving = stirred(plan.kind.name, before, after)
            for key in group:
                once, twice = first[key], second[key]
                still = key not in moving and after.position(key) <= before.position
                if still and isinstance(once, dict) and isinstance(twice, dict):
                    found = differences(once, twice, plan.rules)
                    learnt |= {".".join("*" if isinstance(s, int) else s for s in one.path) for one in found}
        return frozenset(learnt)

    # -- the first pass: pages ---------------------------------------------------------------------------------

    async def _first_pass(self, plan: Plan, tally: Tally) -> list[str]:
        """Prove what some pages at a time can prove; return the keys that need a closer look."""
        suspects: list[str] = []
        traversal = Traversal()
        pages = self._legacy.pages(plan.kind, traversal)
        before = await asyncio.to_thread(self._evidence.moment)
        start, there = before.position, 0
        shown = await self._shown(pages)
        while shown:
            after = await asyncio.to_thread(self._evidence.reading, plan.kind.name, list(shown), before)
            there += sum(fields is not None for fields, _ in after.states.values())
            # The next pages are on their way while these are judged; the moment of this reading is the one before them.
            following, unproven = await asyncio.gather(
                self._shown(pages), self._judged(plan, shown, before, after, tally)
            )
            suspects += unproven
            self._tell(plan, tally, tally.planned + len(suspects))
            before, shown = after.moment, following
        tally.stuck = traversal.stuck
        unlisted = await asyncio.to_thread(self._evidence.unlisted, plan.kind.name, traversal.seen, there, start)
        return suspects + unlisted

    async def _shown(self, pages: AsyncIterator[Mapping[str, Fields]]) -> dict[str, str]:
        """Read as many pages as one look at the log serves, as text by key; it is empty when none are left.

        A look costs more than what it says of a key, so pages that come fast share one.
        """
        shown: dict[str, str] = {}
        until = self._clock() + LOOK
        async for page in pages:
            shown.update({key: json.encode(fields).decode() for key, fields in page.items()})
            if shown and (len(shown) + len(page) > AT_ONCE or self._clock() >= until):
                break
        return shown

    async def _judged(
        self, plan: Plan, shown: Mapping[str, str], before: Moment, after: Reading, tally: Tally
    ) -> list[str]:
        """Count what a look proves equal; return the keys that it does not."""
        if plan.kind.listing is not None and plan.kind.listing.partial:
            return list(shown)
        suspects: list[str] = []
        moving = stirred(plan.kind.name, before, after)
        for key, text in shown.items():
            logged, position = after.states.get(key, (None, 0))
            if key in moving or position > before.position or logged is None:
                suspects.append(key)
                continue
            comparison = SAME if text == logged else self._compare(plan, json.decode(text), json.decode(logged))
            if comparison.differences:
                suspects.append(key)
                continue
            tally.planned += 1
            tally.in_one_look += 1
            _count_match(tally, key, comparison)
        return suspects

    # -- the second pass: keys ---------------------------------------------------------------------------------

    async def _second_pass(self, plan: Plan, suspects: Sequence[str], tally: Tally) -> None:
        proven = self._checkpoint.proven(plan.kind.name) if self._checkpoint else set[str]()
        pending = [key for key in suspects if key not in proven]
        tally.equal += [key for key in suspects if key in proven]
        seen: dict[str, Sight] = {}
        for attempt in range(1, self._method.attempts + 1):
            if not pending:
                return
            if attempt > 1:
                await self._sleep(max(SETTLING * 2 ** (attempt - 2), STREAMING if plan.streamed else 0))
            again: list[str] = []
            for keys in self._groups(plan.kind, pending):
                again += await self._look(plan, keys, attempt, tally, seen, proven)
                if self._checkpoint is not None:
                    self._checkpoint.save()
                self._tell(plan, tally, tally.planned)
            pending = again

    def _groups(self, kind: EntityKind, keys: Sequence[str]) -> list[Sequence[str]]:
        """Cut keys into groups that are read between two looks at the log; a list serves all keys at once."""
        size = self._method.together if kind.single else max(1, len(keys))
        return [keys[start : start + size] for start in range(0, len(keys), size)]

    async def _look(
        self,
        plan: Plan,
        keys: Sequence[str],
        attempt: int,
        tally: Tally,
        seen: dict[str, Sight],
        proven: set[str],
    ) -> list[str]:
        """Read a group of keys from both sides; return those that need another attempt.

        `seen` keeps the differences that have to be seen again to be believed, `proven` gets the keys that are equal.
        """
        before = await asyncio.to_thread(self._evidence.moment)
        read = await self._read(plan.kind, keys)
        after = await asyncio.to_thread(self._evidence.reading, plan.kind.name, keys, before)
        again = []
        for key in keys:
            found = read[key]
            failure = str(found) if isinstance(found, QueryFailed | QueryRefused) else None
            fields = None if isinstance(found, QueryFailed | QueryRefused) else found
            comparison = self._compare(plan, fields, after.fields(key))
            look = Look(fields, before, after, failure)
            verdict = self._verdict(plan, key, look, comparison, attempt)
            if isinstance(verdict, Retry | Unverified) and comparison.differences and failure is None:
                verdict = await self._when_settled(plan, key, look, comparison, attempt)
            if isinstance(verdict, Mismatch) and plan.streamed:
                verdict = self._believed(verdict, key, comparison, attempt, seen)
            if isinstance(verdict, Retry):
                again.append(key)
            else:
                _count(tally, key, verdict, comparison, fields)
                if isinstance(verdict, Match):
                    proven.add(key)
        return again

    def _believed(
        self, verdict: Mismatch, key: str, comparison: Comparison, attempt: int, seen: dict[str, Sight]
    ) -> Verdict:
        """Believe a difference that was there at the last look as well; a stream may be about to tell its event."""
        sight = (verdict.position, comparison.differences)
        if seen.get(key) == sight:
            return verdict
        seen[key] = sight
        reason = "a stream may have written it, and the difference was not seen twice"
        return Retry(reason) if attempt < self._method.attempts else Unverified(reason)

    async def _read(
        self, kind: EntityKind, keys: Sequence[str]
    ) -> Mapping[str, Fields | QueryFailed | QueryRefused | None]:
        if kind.single is None:
            return await self._read_list(kind, keys)
        found = await asyncio.gather(*(self._read_one(kind, key) for key in keys))
        return dict(zip(keys, found, strict=True))

    async def _read_one(self, kind: EntityKind, key: str) -> Fields | QueryFailed | QueryRefused | None:
        try:
            return await self._legacy.one(kind, key)
        except QueryFailed as failed:
            return failed
        except QueryRefused as refused:
            if refused.error in FATAL:
                raise
            return refused

    async def _read_list(self, kind: EntityKind, keys: Sequence[str]) -> Mapping[str, Fields | QueryFailed | None]:
        wanted = set(keys)
        found: dict[str, Fields | QueryFailed | None] = dict.fromkeys(keys)
        try:
            async for page in self._legacy.pages(kind, Traversal()):
                found.update({key: fields for key, fields in page.items() if key in wanted})
        except QueryFailed as failed:
            return dict.fromkeys(keys, failed)
        return found

    def _compare(self, plan: Plan, legacy: Fields | None, log: Fields | None) -> Comparison:
        comparable = None if log is None else plan.comparable(log)
        return compare(plan.kind.name, legacy, comparable, plan.rules, self._method.today)

    # -- verdicts ----------------------------------------------------------------------------------------------

    def _verdict(
        self,
        plan: Plan,
        key: str,
        look: Look,
        comparison: Comparison,
        attempt: int,
        settled: tuple[frozenset[int], Mapping[EntityKey, int]] | None = None,
    ) -> Verdict:
        """Decide on one key; `settled` is what became of the keyless intents meanwhile, when that was asked."""
        entity = EntityKey(plan.kind.name, key)
        around = surroundings(entity, plan.keyless, look.before, look.after)
        keyless = around.keyless
        turned_out: tuple[int, ...] = ()
        if settled is not None:
            pending, touched = settled
            keyless = tuple(intent for intent in keyless if intent in pending)
            turned_out = (touched[entity],) if entity in touched else ()
        return decide(
            Facts(
                before=around.before,
                after=around.after,
                equal=not comparison.differences,
                attempt=attempt,
                attempts=self._method.attempts,
                came_and_went=around.came_and_went,
                keyless=keyless,
                turned_out=turned_out,
                doubtful=around.doubtful,
                failure=look.failure,
            )
        )

    async def _when_settled(self, plan: Plan, key: str, look: Look, comparison: Comparison, attempt: int) -> Verdict:
        """Decide again once the calls that did not say which keys they touch have shown it.

        Without this, a difference could not be confirmed while somebody is always creating something.
        """
        around = surroundings(EntityKey(plan.kind.name, key), plan.keyless, look.before, look.after)
        settled: tuple[frozenset[int], Mapping[EntityKey, int]] = (frozenset(around.keyless), {})
        for turn in range(PATIENCE):
            settled = await asyncio.to_thread(self._evidence.touched, around.keyless)
            if not settled[0] - set(around.doubtful):
                break
            await self._sleep(SETTLING * 2**turn)
        return self._verdict(plan, key, look, comparison, attempt, settled)

    # -- the log's keys ----------------------------------------------------------------------------------------

    async def _logged(self, entity: str) -> list[str]:
        return await asyncio.to_thread(lambda: [key for keys in self._evidence.keys(entity) for key in keys])

    def _tell(self, plan: Plan, tally: Tally, planned: int) -> None:
        self._progress(Progress(plan.kind.name, planned, tally.checked, len(tally.differing)))


def _count(tally: Tally, key: str, verdict: Verdict, comparison: Comparison, legacy: Fields | None) -> None:
    match verdict:
        case Match():
            _count_match(tally, key, comparison)
        case Mismatch(position):
            tally.differing.append(Difference(key, position, comparison, legacy))
            _count_set_aside(tally, comparison)
        case Unverified():
            tally.unverified[key] = verdict


def _count_match(tally: Tally, key: str, comparison: Comparison) -> None:
    tally.equal.append(key)
    if comparison is not SAME:
        _count_set_aside(tally, comparison)


def _count_set_aside(tally: Tally, comparison: Comparison) -> None:
    tally.untold += comparison.untold
    for _, rule in comparison.ignored:
        tally.ignored[f"{rule.entity}.{rule.path} ({rule.owner}, until {rule.expires})"] += 1
    for difference in comparison.volatile:
        tally.volatile[".".join(map(str, difference.path))] += 1
