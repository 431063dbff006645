"""From the contract to what a run needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.plans import kind_of, plans
from shadow.contract import Item, parse
from shadow.json import Json
from tests.support.memory_legacy import CONTRACT

NOTE = parse(CONTRACT, "c").entities["note"]
json_values = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
items = st.dictionaries(st.sampled_from(["id", "title", "tags", "other"]), json_values) | json_values


def outcome(function: object, *arguments: object) -> object:
    try:
        return function(*arguments)  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001  whatever one way does, the other has to do
        return type(error)


@given(items)
def test_the_quick_way_to_key_and_fields_is_the_contracts_way(value: Json) -> None:
    kind = kind_of(NOTE)
    item = Item("", value)
    assert outcome(kind.key_of, item) == outcome(NOTE.key_of, value)
    slow = outcome(lambda: NOTE.comparable(NOTE.fields_of(value)))
    assert outcome(kind.fields_of, item) == slow


@pytest.mark.parametrize(
    ("rule", "keyless"),
    [
        ('key = "input.id"', False),
        ('key = "output.id"', True),
        ('key = "input.id"\neach = "input.ids"', True),
    ],
)
def test_a_mutation_whose_keys_its_intent_does_not_name_is_watched_for_all_keys(rule: str, keyless: bool) -> None:
    text = CONTRACT + (
        f'\n[mutation."note.copy"]\nentity = "note"\n{rule}\neffect = "put"\nevent = "note-copied"\n'
        "channel = \"'note:x'\"\ndata = \"{'title': input.title}\"\n"
    )
    (plan,) = plans(parse(text, "c"))
    assert ("note.copy" in plan.keyless) is keyless
    assert "note.create" in plan.keyless
