"""The table of states follows the events, a slice at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shadow.events import EntityKey
from shadow.folding import Folding, Slice

A, B, C = (EntityKey("session", name) for name in "abc")


def test_nothing_is_written_while_the_table_lags_little() -> None:
    folding = Folding(10, lag=5)
    assert folding.plan(14, [A]) == Slice((), 10)


def test_a_sweep_takes_all_keys_along_in_their_order() -> None:
    folding = Folding(0, lag=5, size=2)
    first = folding.plan(5, [C, A, B])
    assert sorted(first.keys) == [A, B]
    assert first.folded == 0
    folding.written(first)
    last = folding.plan(9, [C, A])
    assert last == Slice([C], 5), "it is complete up to where the sweep began, whatever came since"
    folding.written(last)
    assert folding.folded == 5
    assert folding.plan(9, [A]) == Slice((), 5)


def test_a_slice_that_was_not_committed_comes_again() -> None:
    folding = Folding(0, lag=1, size=1)
    assert folding.plan(3, [B, A]) == folding.plan(3, [B, A]) == Slice([A], 0)


def test_at_rest_a_sweep_begins_however_little_the_table_lags() -> None:
    folding = Folding(4, lag=100)
    assert folding.plan(5, [A], at_rest=True) == Slice([A], 5)
    folding.written(Slice([A], 5))
    assert folding.plan(5, [], at_rest=True) == Slice((), 5)
    assert not folding.sweeping


def test_events_without_entities_leave_nothing_to_write() -> None:
    assert Folding(0, lag=5).plan(7, []) == Slice([], 7)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=60), st.integers(1, 7), st.integers(1, 4)
)
def test_up_to_folded_the_table_lacks_nothing(steps: list[tuple[str, bool]], lag: int, size: int) -> None:
    """Whatever is written in between, and whichever transactions fail."""
    folding = Folding(0, lag=lag, size=size)
    newest: dict[EntityKey, int] = {}
    table: dict[EntityKey, int] = {}
    unwritten: dict[EntityKey, int] = {}
    for head, (name, commits) in enumerate(steps):
        key = EntityKey("session", name)
        swept = folding.plan(head, unwritten)
        position = head + 1
        unwritten[key] = newest[key] = position
        if commits:
            for done in swept.keys:
                table[done] = unwritten.pop(done)
            folding.written(swept)
        behind = [position for key, position in newest.items() if table.get(key, 0) < position]
        assert all(position > folding.folded for position in behind)
