"""Faults put into a copy on purpose."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.compare import Fields, Ignore, Rules, compare
from reconcile.faults import CATALOGUE, Specimen, plant
from shadow.events import Draft, Effect, EntityKey, Event
from shadow.json import Json


def specimen(key: str, *changes: Fields) -> Specimen:
    events = tuple(
        Event(
            position,
            Draft(
                f"e{position}",
                "c",
                "t",
                0,
                None,
                EntityKey("note", key),
                Effect.PATCH if position else Effect.CREATE,
                change,
            ),
            "",
        )
        for position, change in enumerate(changes)
    )
    fields: Fields = {}
    for change in changes:
        fields |= change
    return Specimen(key, fields, events)


ONE = specimen("a", {"title": "first", "n": 1}, {"title": "second"}, {"title": "third ü"})


def test_one_rich_entity_lends_itself_to_every_fault() -> None:
    assert [planted.fault for planted in plant([ONE], Rules(), dict)] == list(CATALOGUE)


values = st.booleans() | st.integers(-3, 3) | st.text(max_size=4)
changes = st.dictionaries(st.sampled_from(["title", "n", "done"]), values, min_size=1, max_size=3)


@given(st.lists(st.lists(changes, min_size=1, max_size=4), min_size=1, max_size=4))
def test_whatever_is_planted_the_comparison_finds_all_of_it(histories: list[list[dict[str, Json]]]) -> None:
    specimens = [specimen(f"k{number}", *history) for number, history in enumerate(histories)]
    truth = {one.key: one.fields for one in specimens}
    for planted in plant(specimens, Rules(), dict):
        for key, fields in planted.overlay.items():
            assert compare("note", truth.get(key), fields, Rules(), "2026-01-01").differences, planted


@pytest.mark.parametrize(
    "rules", [Rules(ignored=(Ignore("note", "title", "o", "r", "2099-01-01"),)), Rules(volatile=("title",))]
)
def test_nothing_is_planted_where_nobody_looks(rules: Rules) -> None:
    quiet = specimen("a", {"title": "first"}, {"title": "second"})
    assert {planted.fault for planted in plant([quiet], rules, dict)} == {"lost batch tail", "wrong key"}


def test_faults_go_to_different_entities_as_long_as_there_are_some() -> None:
    many = [specimen(f"k{number}", {"title": "first"}, {"title": "second"}) for number in range(len(CATALOGUE))]
    keys = [next(iter(planted.overlay)).partition("~")[0] for planted in plant(many, Rules(), dict)]
    assert len(set(keys)) == len(CATALOGUE)
