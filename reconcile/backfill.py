"""Backfill: what the legacy had before the proxy came, taken into the log while mutations go on.

No lock is held. An import says what the legacy showed while the entity was at a certain position of the log, and
is appended only if the entity is still there (`expected`). A mutation that slips in between the read and the append
either has its event already, then the import is refused and tried again; or it gets its event after the import,
and then changes what was imported, as it changed the legacy. An entity whose key no open intent names yet waits until
those intents are settled, so that an import never comes before the event of its own creation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reconcile.append import Appender, MovedError
from reconcile.compare import Fields, differences, kept
from reconcile.errors import QueryFailed, QueryRefused
from reconcile.evidence import IMPORT_COMPLETED, IMPORTS, Evidence, Moment, Reading, surroundings
from reconcile.legacy import Legacy, Traversal
from reconcile.passes import FATAL, Plan
from shadow.events import Draft, Effect, EntityKey

ROUNDS: Final = 8
"""How often a key that would not hold still is tried again."""


@dataclass(slots=True)
class Imported:
    """What became of one kind of entity. `present` were in the log already; `differing` are too, with other fields."""

    entity: str
    listed: int = 0
    imported: int = 0
    present: int = 0
    differing: int = 0
    failed: int = 0
    """Could not be read, or would not hold still."""
    stuck: bool = False

    @property
    def done(self) -> int:
        """How many entities are dealt with."""
        return self.imported + self.present + self.differing + self.failed

    @property
    def complete(self) -> bool:
        """Tell whether the log knows everything now that the legacy lists."""
        return not self.failed and not self.stuck


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entity to be imported: what the legacy showed while the log stood still at `position`."""

    key: str
    fields: Fields
    position: int


class Backfill:
    """Imports kinds of entities; safe to stop at any moment and to run again: what is in the log is left alone.

    `new_id` and `clock` (milliseconds) make the events. `seal` seals what is secret in them; without it a secret
    that the legacy shows in clear is kept as no more than its mask.
    """

    def __init__(
        self,
        legacy: Legacy,
        evidence: Evidence,
        appender: Appender,
        *,
        new_id: Callable[[], str],
        clock: Callable[[], int],
        seal: Callable[[Draft], Draft] | None = None,
        together: int = 16,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        progress: Callable[[Imported], None] = lambda _: None,
    ) -> None:
        self._legacy = legacy
        self._evidence = evidence
        self._appender = appender
        self._new_id = new_id
        self._clock = clock
        self._seal = seal
        self._together = together
        self._sleep = sleep
        self._progress = progress

    async def run(self, plan: Plan) -> Imported:
        """Import one kind of entity; says so in the log when everything that the legacy lists is there."""
        tally = Imported(plan.kind.name)
        restless = await self._from_list(plan, tally)
        for attempt in range(ROUNDS):
            if not restless:
                break
            await self._sleep(0.05 * 2**attempt)
            restless = await self._from_keys(plan, restless, tally)
        tally.failed += len(restless)
        self._progress(tally)
        if tally.complete and not self._evidence.imported(plan.kind.name):
            await self._appender.append([self._completed(tally)], {})
        return tally

    # -- reading -----------------------------------------------------------------------------------------------

    async def _from_list(self, plan: Plan, tally: Imported) -> list[str]:
        """Import page by page; return the keys that need another look."""
        listing = plan.kind.listing
        if listing is None:
            return []
        restless: list[str] = []
        traversal = Traversal()
        pages = self._legacy.pages(plan.kind, traversal)
        before = await asyncio.to_thread(self._evidence.moment)
        page = await anext(pages, None)
        while page is not None:
            after = await asyncio.to_thread(self._evidence.reading, plan.kind.name, list(page), before)
            tally.listed += len(page)
            if listing.partial:
                unknown = [key for key in page if after.fields(key) is None]
                tally.present += len(page) - len(unknown)
                for start in range(0, len(unknown), self._together):
                    restless += await self._from_keys(plan, unknown[start : start + self._together], tally)
                following = await anext(pages, None)
            else:
                # The next page is on its way while this one is appended.
                following, unsettled = await asyncio.gather(
                    anext(pages, None), self._import(plan, page, before, after, tally)
                )
                restless += unsettled
            self._progress(tally)
            before, page = after.moment, following
        tally.stuck = traversal.stuck
        return restless

    async def _from_keys(self, plan: Plan, keys: Sequence[str], tally: Imported) -> list[str]:
        before = await asyncio.to_thread(self._evidence.moment)
        found = await self._read(plan, keys)
        after = await asyncio.to_thread(self._evidence.reading, plan.kind.name, keys, before)
        gone = [key for key, fields in found.items() if fields is None]
        tally.present += len(gone)  # deleted meanwhile: nothing is left to import
        there = {key: fields for key, fields in found.items() if fields is not None}
        unread = [key for key in keys if key not in found]
        return unread + await self._import(plan, there, before, after, tally)

    async def _read(self, plan: Plan, keys: Sequence[str]) -> dict[str, Fields | None]:
        """Read entities by key; those that could not be read are left out."""
        if plan.kind.single is None:
            wanted = set(keys)
            found: dict[str, Fields | None] = dict.fromkeys(keys)
            async for page in self._legacy.pages(plan.kind, Traversal()):
                found.update({key: fields for key, fields in page.items() if key in wanted})
            return found
        answers = await asyncio.gather(*(self._read_one(plan, key) for key in keys))
        return {key: answer[0] for key, answer in zip(keys, answers, strict=True) if answer is not None}

    async def _read_one(self, plan: Plan, key: str) -> tuple[Fields | None] | None:
        try:
            return (await self._legacy.one(plan.kind, key),)
        except QueryFailed:
            return None
        except QueryRefused as refused:
            if refused.error in FATAL:
                raise
            return None

    # -- appending ---------------------------------------------------------------------------------------------

    async def _import(
        self, plan: Plan, shown: Mapping[str, Fields], before: Moment, after: Reading, tally: Imported
    ) -> list[str]:
        """Append what the log lacks; return the keys that did not hold still."""
        candidates: list[Candidate] = []
        restless: list[str] = []
        for key, fields in shown.items():
            logged = after.fields(key)
            if logged is not None:
                equal = not differences(fields, plan.comparable(logged), plan.rules, limit=1)
                tally.present += equal
                tally.differing += not equal
            elif not _still(plan, key, before, after):
                restless.append(key)
            elif after.position(key) and await asyncio.to_thread(self._deleted, EntityKey(plan.kind.name, key)):
                tally.differing += 1
            else:
                candidates.append(Candidate(key, fields, after.position(key)))
        return restless + await self._append(plan, candidates, tally)

    def _deleted(self, key: EntityKey) -> bool:
        """Tell whether the log says that the entity was deleted: then its presence is a difference, not a gap."""
        return any(event.draft.effect is Effect.DELETE for event in self._evidence.history(key)[-1:])

    async def _append(self, plan: Plan, candidates: Sequence[Candidate], tally: Imported) -> list[str]:
        """Append all at once, or one by one if one of them moved."""
        if not candidates:
            return []
        try:
            await self._appender.append(
                [self._draft(plan, one) for one in candidates],
                {EntityKey(plan.kind.name, one.key): one.position for one in candidates},
            )
        except MovedError:
            if len(candidates) == 1:
                return [candidates[0].key]
            return [key for one in candidates for key in await self._append(plan, [one], tally)]
        tally.imported += len(candidates)
        return []

    def _draft(self, plan: Plan, candidate: Candidate) -> Draft:
        name = plan.kind.name
        draft = Draft(
            id=self._new_id(),
            channel=IMPORTS,
            type=f"{name}-imported",
            time=self._clock(),
            # Whoever may see `app:*` need not be one who may see this entity.
            data={"entity": name},
            entity=EntityKey(name, candidate.key),
            effect=Effect.PUT,
            change=candidate.fields if self._seal else kept(candidate.fields, plan.rules),
            cause="import",
        )
        return self._seal(draft) if self._seal else draft

    def _completed(self, tally: Imported) -> Draft:
        data = {"entity": tally.entity, "listed": tally.listed, "imported": tally.imported}
        return Draft(self._new_id(), IMPORTS, IMPORT_COMPLETED, self._clock(), data, cause="import")


def _still(plan: Plan, key: str, before: Moment, after: Reading) -> bool:
    """Tell whether nothing was going on around the read that could concern this key."""
    around = surroundings(EntityKey(plan.kind.name, key), plan.keyless, before, after)
    named = around.before.open_intents or around.after.open_intents or around.came_and_went
    return not (named or around.keyless or around.before.position != around.after.position)
