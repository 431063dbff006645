"""The detector tested in each run: known faults go into a copy of what the log says, and all must be found.

The copy is laid over the evidence; everything else is the real thing: the legacy is read again, the moments are
looked at again, the same rules apply. So a rule that hides too much, or a query that shows too little, is found too.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from reconcile.evidence import Evidence, Moment, Reading
from reconcile.faults import CATALOGUE, Overlay, Planted, Specimen, plant
from reconcile.passes import Passes, Plan, Source, Tally
from reconcile.report import SelfTest
from shadow import json
from shadow.events import EntityKey

SPECIMENS: Final = 3 * len(CATALOGUE)
"""How many entities of a kind are looked at for faults that they lend themselves to."""


class Overlaid:
    """Evidence of a log in which something went wrong."""

    def __init__(self, evidence: Source, overlay: Overlay) -> None:
        self._evidence = evidence
        self._overlay = overlay

    def moment(self) -> Moment:
        """See Evidence."""
        return self._evidence.moment()

    def reading(self, entity: str, keys: Sequence[str], since: Moment) -> Reading:
        """See Evidence."""
        real = self._evidence.reading(entity, keys, since)
        states = dict(real.states)
        for key in self._overlay.keys() & set(keys):
            fields = self._overlay[key]
            states[key] = (None if fields is None else json.encode(fields).decode(), real.position(key))
        return Reading(real.moment, states, real.begun)

    def keys(self, entity: str) -> list[list[str]]:
        """See Evidence."""
        return list(self._evidence.keys(entity))

    def unlisted(self, entity: str, listed: AbstractSet[str], there: int, position: int) -> list[str]:
        """See Evidence."""
        return self._evidence.unlisted(entity, listed, there, position)

    def touched(self, ids: Sequence[int]) -> tuple[frozenset[int], Mapping[EntityKey, int]]:
        """See Evidence."""
        return self._evidence.touched(ids)


@dataclass(slots=True)
class Recall:
    """What was planted and found so far, over all kinds of entities."""

    planted: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)

    def result(self) -> SelfTest:
        """Return what the report says of it."""
        return SelfTest(self.planted, self.found, tuple(self.missed))


async def probe(
    passes: Passes, source: Source, evidence: Evidence, plan: Plan, tally: Tally, seed: int, recall: Recall
) -> None:
    """Plant the catalogue into entities of one kind that were just found equal, and count what is found.

    A fault on an entity that would not hold still long enough for an exact comparison is not counted.
    """
    specimens = await asyncio.to_thread(_specimens, source, evidence, plan, tally, seed)
    for batch in _apart(plant(specimens, plan.rules, plan.comparable)):
        overlay = {key: fields for planted in batch for key, fields in planted.overlay.items()}
        judged = await passes.over(Overlaid(source, overlay)).compare_keys(plan, list(overlay))
        differing = {difference.key for difference in judged.differing}
        for planted in batch:
            if judged.unverified.keys() & planted.overlay.keys():
                continue
            recall.planted += 1
            if planted.overlay.keys() <= differing:
                recall.found += 1
            else:
                recall.missed.append(f"{plan.kind.name}: {planted.fault}")


def _apart(planted: Sequence[Planted]) -> list[list[Planted]]:
    """Sort faults into batches in which no entity has two of them."""
    batches: list[list[Planted]] = []
    for one in planted:
        for batch in batches:
            if not any(one.overlay.keys() & other.overlay.keys() for other in batch):
                batch.append(one)
                break
        else:
            batches.append([one])
    return batches


def _specimens(source: Source, evidence: Evidence, plan: Plan, tally: Tally, seed: int) -> list[Specimen]:
    """Choose some entities that were found equal, as the log has them."""
    name = plan.kind.name
    keys: Sequence[str] = tally.equal
    if len(keys) < SPECIMENS:
        # So few were compared that others have to stand in.
        doubtful = {difference.key for difference in tally.differing} | tally.unverified.keys()
        keys = [key for page in source.keys(name) for key in page if key not in doubtful]
    # A seed makes a run repeatable; nothing secret hangs on it.
    chosen = random.Random(seed).sample(keys, min(SPECIMENS, len(keys)))  # noqa: S311
    reading = source.reading(name, chosen, source.moment())
    return [
        Specimen(key, fields, tuple(evidence.history(EntityKey(name, key))))
        for key in chosen
        if (fields := reading.fields(key)) is not None
    ]
