"""Which of several calls came last, told by what the legacy shows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from proxy.observation import Overlaps, explanation, orders, view
from proxy.verdict import differs
from shadow.contract import Contract, Rule, parse
from shadow.events import EntityKey
from shadow.json import Json

CONTRACT: Contract = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["a", "b"]

[mutation."note.set"]
entity = "note"
key = "input.id"
effect = "patch"
event = "note-set"
channel = "'note:' + key"
data = "input.change"

[mutation."note.remove"]
entity = "note"
key = "input.id"
effect = "delete"
event = "note-removed"
channel = "'note:' + key"
data = "{}"
""",
    "notes.toml",
)
NOTE = CONTRACT.entities["note"]
KEY = EntityKey("note", "n")


@dataclass(frozen=True)
class Asked:
    input: Json
    rule: Rule | None


def setting(**change: Json) -> Asked:
    return Asked({"id": "n", "change": change}, CONTRACT.mutations["note.set"])


REMOVE = Asked({"id": "n"}, CONTRACT.mutations["note.remove"])
changes = st.fixed_dictionaries({}, optional={"a": st.integers(0, 2), "b": st.integers(0, 2)})


@given(st.lists(changes, min_size=2, max_size=4), st.data())
def test_the_state_after_the_order_that_is_found_is_what_the_legacy_shows(
    given_changes: list[dict[str, Json]], data: st.DataObject
) -> None:
    calls = [setting(**change) for change in given_changes]
    before: dict[str, Json] = {"a": 9, "b": 9}
    candidates = orders(calls, KEY, before, 0)
    if not candidates:
        return
    truth = data.draw(st.sampled_from(candidates))[1]
    found = explanation(NOTE, candidates, truth)

    assert found is not None
    assert dict(candidates)[found] == truth


@given(st.lists(changes, min_size=2, max_size=3))
def test_calls_that_commute_need_no_look(given_changes: list[dict[str, Json]]) -> None:
    calls = [setting(**change) for change in given_changes]
    ends = []
    for order in itertools.permutations(given_changes):
        state: dict[str, Json] = {}
        for change in order:
            state |= change
        ends.append(state)

    if all(end == ends[0] for end in ends):
        assert orders(calls, KEY, {}, 0) == []


def test_a_removal_that_came_last_is_told_by_the_entitys_absence() -> None:
    calls = [REMOVE, setting(a=1)]
    candidates = orders(calls, KEY, {"a": 0}, 0)

    assert candidates == [], "an update of what is gone leaves it gone, whichever came first"


def test_what_no_order_explains_is_said_to_be_so() -> None:
    candidates = orders([setting(a=1), setting(a=2)], KEY, {"a": 0}, 0)

    assert explanation(NOTE, candidates, {"a": 2}) == (0, 1)
    assert explanation(NOTE, candidates, {"a": 1}) == (1, 0)
    assert explanation(NOTE, candidates, {"a": 7}) is None


def test_an_entity_is_looked_at_when_the_last_of_those_that_overlapped_has_left() -> None:
    overlaps = Overlaps()
    first, second = overlaps.enter([KEY]), overlaps.enter([KEY])
    assert overlaps.leave(first) == ()
    assert overlaps.busy(KEY)
    assert overlaps.leave(second) == (KEY,)
    alone = overlaps.enter([KEY])

    assert overlaps.leave(alone) == ()
    assert not overlaps.busy(KEY)


def test_every_order_of_a_few_calls_is_tried() -> None:
    """Which of three came last does not tell in which order the others were."""
    calls = [setting(b=1), REMOVE, setting(a=1)]
    found = explanation(NOTE, orders(calls, KEY, {"a": 0, "b": 0}, 0), {"a": 1, "b": 1})
    assert found is None, "it was removed by one of them"

    calls = [setting(a=1, b=1), setting(a=2), setting(b=2)]
    assert explanation(NOTE, orders(calls, KEY, {"a": 0, "b": 0}, 0), {"a": 2, "b": 1}) == (2, 0, 1)
    assert explanation(NOTE, orders(calls, KEY, {"a": 0, "b": 0}, 0), {"a": 1, "b": 1}) == (1, 2, 0)


def test_of_many_calls_it_is_tried_which_came_last() -> None:
    calls = [setting(a=number) for number in range(6)]

    assert [order[-1] for order, _ in orders(calls, KEY, {"a": 9}, 0)] == [5, 4, 3, 2, 1, 0]


def test_a_field_that_the_legacy_no_longer_shows_is_gone() -> None:
    assert differs(view(NOTE, KEY, {"a": 1, "b": 2}, {"a": 1}))
    assert not differs(view(NOTE, KEY, {"a": 1}, {"a": 1, "b": 2})), "the log never heard of it"
