"""Drafts on their way to the writer of the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow import json
from shadow.drafts import as_json, expected_as_json, expected_from_json, from_json
from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
drafts = st.builds(
    Draft,
    id=texts,
    channel=texts,
    type=texts,
    time=st.integers(0, 2**40),
    data=st.none() | st.dictionaries(texts, st.integers(), max_size=2),
    entity=st.none() | st.builds(EntityKey, texts, texts),
    effect=st.sampled_from(Effect),
    change=st.none() | st.dictionaries(texts, st.integers(), max_size=2),
    actor=st.none() | texts,
    cause=st.none() | texts,
)


@given(drafts)
def test_a_draft_arrives_as_it_was_sent(draft: Draft) -> None:
    assert from_json(json.decode(json.encode(as_json(draft)))) == draft


GOOD: dict[str, Json] = {"id": "1", "channel": "c", "type": "t", "time": 1}


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ([], "object"),
        ({**GOOD, "id": ""}, "`id`"),
        ({**GOOD, "time": True}, "`time`"),
        ({**GOOD, "entity": "x"}, "come together"),
        ({**GOOD, "change": []}, "`change`"),
        ({**GOOD, "effect": "x"}, "create, put, patch, delete, none"),
        ({**GOOD, "actor": 1}, "`actor`"),
    ],
)
def test_a_wrong_draft_is_refused_by_name(value: Json, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        from_json(value)


def test_expected_positions_arrive_as_they_were_sent() -> None:
    expected = {EntityKey("a", "b"): 3}
    assert expected_from_json(json.decode(json.encode(expected_as_json(expected)))) == expected
    assert expected_from_json(None) == {}
    with pytest.raises(ValueError, match="list of"):
        expected_from_json([["a", "b"]])
