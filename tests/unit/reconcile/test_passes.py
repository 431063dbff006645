"""In which order the passes look at the log and at the legacy, and how much one look has to serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from reconcile.compare import Fields
from reconcile.evidence import Moment, Reading
from reconcile.legacy import EntityKind, Listing, Traversal
from reconcile.passes import AT_ONCE, LOOK, Method, Passes, Plan, Tally
from shadow.events import EntityKey

TEXT = '{"v":1}'


@dataclass(slots=True)
class Sides:
    """A legacy that lists pages of some sizes, and a log that agrees; both note when they were asked.

    Every look at the log is at a position of its own: the next tick. A page takes `slow` seconds.
    """

    sizes: Sequence[int]
    slow: float = 0.0
    ticks: Iterator[int] = field(default_factory=count)
    time: float = 0.0
    asked: dict[str, int] = field(default_factory=dict)
    """When the page with a key was asked for."""
    answered: dict[str, int] = field(default_factory=dict)
    looks: list[tuple[Moment, list[str], int]] = field(default_factory=list)
    """Since which moment, for which keys, and when the log was read."""
    unlisted_asked: list[tuple[int, int]] = field(default_factory=list)

    async def pages(self, kind: EntityKind, traversal: Traversal) -> AsyncIterator[Mapping[str, Fields]]:
        names = count()
        for size in self.sizes:
            keys = [f"n{next(names)}" for _ in range(size)]
            self.asked.update(dict.fromkeys(keys, next(self.ticks)))
            self.time += self.slow
            self.answered.update(dict.fromkeys(keys, next(self.ticks)))
            traversal.seen.update(keys)
            yield {key: {"v": 1} for key in keys}

    async def one(self, kind: EntityKind, key: str) -> Fields | None:
        return {"v": 1}

    def moment(self) -> Moment:
        return Moment(next(self.ticks), 0, ())

    def reading(self, entity: str, keys: Sequence[str], since: Moment) -> Reading:
        now = next(self.ticks)
        self.looks.append((since, list(keys), now))
        return Reading(Moment(now, 0, ()), dict.fromkeys(keys, (TEXT, 0)), ())

    def keys(self, entity: str) -> list[list[str]]:
        return [list(self.asked)]

    def unlisted(self, entity: str, listed: AbstractSet[str], there: int, position: int) -> list[str]:
        self.unlisted_asked.append((there, position))
        return []

    def touched(self, ids: Sequence[int]) -> tuple[frozenset[int], Mapping[EntityKey, int]]:
        return frozenset(), {}

    async def compared(self) -> Tally:
        listing = Listing("list", lambda _: None, lambda _: (), lambda _: None)
        kind = EntityKind("note", lambda _: "", lambda _: {}, listing, None)
        passes = Passes(self, self, Method("2026-01-01"), clock=lambda: self.time)
        return await passes.compare_all(Plan(kind, "notes"))


@given(st.lists(st.integers(0, AT_ONCE + 100), max_size=12), st.sampled_from([0.0, LOOK / 3, LOOK, 1.0]))
async def test_the_log_is_looked_at_before_a_page_is_asked_for_and_after_it_came(sizes: list[int], slow: float) -> None:
    sides = Sides(sizes, slow)
    tally = await sides.compared()
    for since, keys, now in sides.looks:
        for key in keys:
            assert since.position < sides.asked[key] < sides.answered[key] < now
    looked = [key for _, keys, _ in sides.looks for key in keys]
    assert sorted(looked) == sorted(tally.equal) == sorted(sides.asked), "each key once, and none left out"


@given(st.lists(st.integers(0, AT_ONCE + 100), max_size=12), st.sampled_from([0.0, LOOK / 3]))
async def test_a_look_serves_no_more_than_so_many_keys_or_a_single_page(sizes: list[int], slow: float) -> None:
    sides = Sides(sizes, slow)
    await sides.compared()
    largest = max(sizes, default=0)
    assert all(len(keys) <= max(AT_ONCE, largest) + largest for _, keys, _ in sides.looks)
    if len(set(sizes)) == 1:
        assert all(len(keys) <= max(AT_ONCE, largest) for _, keys, _ in sides.looks)


async def test_pages_that_come_fast_share_a_look_and_slow_ones_have_their_own() -> None:
    fast, slow = Sides([100] * 8), Sides([100] * 8, slow=LOOK)
    await fast.compared()
    await slow.compared()
    assert [len(keys) for _, keys, _ in fast.looks] == [400, 400]
    assert [len(keys) for _, keys, _ in slow.looks] == [100] * 8


async def test_a_page_that_shows_nothing_new_does_not_end_the_list() -> None:
    sides = Sides([3, 0, 0, 2], slow=LOOK)
    assert len((await sides.compared()).equal) == 5


async def test_what_is_only_in_the_log_is_asked_for_with_all_that_was_found_since_the_first_moment() -> None:
    sides = Sides([100, 100, 7])
    await sides.compared()
    assert sides.unlisted_asked == [(207, 0)]
