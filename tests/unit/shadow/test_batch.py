"""What a transaction will write is decided whole or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.batch import Batch, Head, Span, Standing
from shadow.errors import DraftRefused, IntentUnknown, PositionConflict
from shadow.events import GENESIS, Effect, EntityKey
from shadow.journal import Outcome, Settlement
from shadow.schema import SEGMENT
from shadow.state import State
from tests.support.facts import SESSION, draft, intent

BEFORE = Head(position=SEGMENT - 2, hash=GENESIS, last_intent=4, batch=9)


def batch(known: dict[str, int] | None = None) -> Batch:
    states = {SESSION: State({"title": "a"}, 5)}
    standings = {
        1: Standing(Outcome.OPEN),
        2: Standing(Outcome.APPLIED, first=3, events=2),
        3: Standing(Outcome.IN_DOUBT, "k"),
    }
    return Batch(BEFORE, states.get, standings.get, known or {})


def contents(one: Batch) -> tuple[object, ...]:
    rows = (one.event_rows, one.intent_rows, one.outcome_rows, one.claim_rows, one.reservation_rows, one.answer_rows)
    return one.head, *map(tuple, rows), dict(one.states), dict(one.standings), tuple(one.events)


def test_an_empty_batch_writes_nothing() -> None:
    assert batch().empty
    assert batch().settle([Settlement(2, Outcome.APPLIED, 1)]) == [Span(3, 2)]


def test_events_of_an_entity_are_linked_and_put_into_segments() -> None:
    one = batch()
    one.append([draft("e1"), draft("e2", EntityKey("session", "new")), draft("e3"), draft("n", None)], {})
    positions = [SEGMENT - 1, SEGMENT, SEGMENT + 1, SEGMENT + 2]
    assert [row[0] for row in one.event_rows] == positions
    assert [row[1] for row in one.event_rows] == [0, 1, 1, 1]
    assert [row[13] for row in one.event_rows] == [5, 0, SEGMENT - 1, None]
    assert one.head.position == SEGMENT + 2
    assert one.head.batch == 10


def test_a_known_event_is_answered_with_its_place() -> None:
    one = batch({"e1": 7})
    assert one.append([draft("e1")], {}) == [Span(7, 1)]
    assert one.empty


def test_a_kept_answer_is_written_only_for_an_intent_with_a_key() -> None:
    one = batch()
    one.settle([Settlement(1, Outcome.APPLIED, 1, answer=b"x"), Settlement(3, Outcome.APPLIED, 1, answer=b"y")])
    assert one.answer_rows == [("k", 0, 3, "eQ==")]


@given(st.data())
def test_a_command_that_cannot_be_done_leaves_the_batch_as_it_was(data: st.DataObject) -> None:
    one = batch()
    if data.draw(st.booleans()):
        one.begin([intent(idempotency="new")])
        one.append([draft("good", effect=Effect.PATCH, title="b")], {})
    before = contents(one)
    good = [Settlement(1, Outcome.APPLIED, 1, (draft("e1"),), answer=b"x")]
    bad = data.draw(
        st.sampled_from(
            [
                Settlement(99, Outcome.APPLIED, 1),
                Settlement(2, Outcome.REJECTED, 1),
                Settlement(3, Outcome.NOT_APPLIED, 1, (draft("e2"),)),
                Settlement(3, Outcome.APPLIED, 1, (draft("e2", title=object()),)),
                Settlement(3, Outcome.APPLIED, 1, detail="\0"),
            ]
        )
    )
    place = data.draw(st.integers(0, 1))
    with pytest.raises((DraftRefused, IntentUnknown, Exception), match=r"\w"):
        one.settle([*good[:place], bad, *good[place:]])
    with pytest.raises(DraftRefused):
        one.begin([intent(), intent(input=object())])
    with pytest.raises(DraftRefused):
        one.append([draft("e3"), draft("e4", EntityKey("\0", "x"))], {})
    with pytest.raises(PositionConflict):
        one.append([draft("e5")], {EntityKey("session", "none"): 1})
    assert contents(one) == before
