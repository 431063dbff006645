"""What events add up to, and what is remembered of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.events import Effect, EntityKey
from shadow.state import Fields, State, StateCache, fold, follow

A, B, C = (EntityKey("session", key) for key in "abc")
fields = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3))


@given(st.none() | fields, fields)
def test_create_and_put_leave_exactly_the_change(before: Fields | None, change: Fields) -> None:
    assert fold(before, Effect.CREATE, change) == fold(before, Effect.PUT, change) == change


@given(fields, fields)
def test_patch_changes_what_it_names_and_nothing_else(before: Fields, change: Fields) -> None:
    after = fold(before, Effect.PATCH, change)
    assert after is not None
    assert {name: after[name] for name in change} == change
    assert {name: value for name, value in after.items() if name not in change} == {
        name: value for name, value in before.items() if name not in change
    }


@given(fields)
def test_patch_of_what_is_not_there_leaves_it_so(change: Fields) -> None:
    assert fold(None, Effect.PATCH, change) is None


@given(st.none() | fields, st.sampled_from(Effect), st.none() | fields)
def test_folding_changes_nothing_that_it_was_given(
    before: Fields | None, effect: Effect, change: Fields | None
) -> None:
    copies = before and dict(before), change and dict(change)
    fold(before, effect, change)
    assert (before, change) == copies


def test_a_deleted_entity_keeps_its_position() -> None:
    assert follow(State({"x": 1}, 3), 7, Effect.DELETE, None) == State(None, 7)
    assert follow(State(None, 7), 8, Effect.NONE, None) == State(None, 8)


class TestStateCache:
    """The states used last."""

    def test_keeps_what_was_used_last(self) -> None:
        cache = StateCache(2)
        cache.commit({A: State({}, 1), B: State({}, 2)}, written=[A, B])
        cache.get(A)
        cache.commit({C: State({}, 3)}, written=[C])
        assert A in cache
        assert C in cache
        with pytest.raises(KeyError):
            cache.get(B)

    def test_remembers_that_an_entity_is_unknown(self) -> None:
        cache = StateCache(2)
        cache.remember({A: None}, cache.generation)
        assert cache.get(A) is None

    def test_forgets_what_was_read_before_a_commit(self) -> None:
        cache = StateCache(1)
        seen = cache.generation
        cache.commit({A: State({"title": "new"}, 2)}, written=[A])
        cache.commit({B: State({}, 3)}, written=[B])
        cache.remember({A: State({"title": "old"}, 1)}, seen)
        assert A not in cache

    def test_forgets_all_when_another_may_have_written(self) -> None:
        cache = StateCache(2)
        seen = cache.generation
        cache.commit({A: State({}, 1)})
        cache.clear()
        cache.remember({A: State({}, 1)}, seen)
        assert A not in cache

    def test_keeps_whatever_the_table_does_not_have(self) -> None:
        cache = StateCache(1)
        cache.commit({A: State({}, 1), B: State({}, 2)})
        cache.commit({C: State({}, 3)}, written=[B])
        assert cache.unwritten == {A: State({}, 1), C: State({}, 3)}
        assert cache.get(A) == State({}, 1)
        assert B not in cache
