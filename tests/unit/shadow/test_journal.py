"""An intent goes one way, and comes to an end once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.errors import OutcomeRefused
from shadow.journal import UNSETTLED, WITH_EVENTS, Outcome, moves

outcomes = st.sampled_from(Outcome)


@given(outcomes)
def test_staying_is_no_move_but_a_doubt_may_get_another_reason(outcome: Outcome) -> None:
    assert moves(outcome, outcome) is (outcome is Outcome.IN_DOUBT)


@given(st.lists(outcomes, max_size=8))
def test_events_are_owed_once_whatever_is_asked_in_whatever_order(asked: list[Outcome]) -> None:
    current, with_events = Outcome.OPEN, 0
    for wanted in asked:
        try:
            moved = moves(current, wanted)
        except OutcomeRefused:
            continue
        if moved:
            assert current in UNSETTLED, "what is settled stays as it is"
            current = wanted
            with_events += wanted in WITH_EVENTS
    assert with_events == (current in WITH_EVENTS)


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        (Outcome.APPLIED, Outcome.REJECTED),
        (Outcome.REJECTED, Outcome.APPLIED),
        (Outcome.IN_DOUBT, Outcome.REJECTED),
        (Outcome.IN_DOUBT, Outcome.OPEN),
        (Outcome.OPEN, Outcome.OBSERVED),
        (Outcome.NOT_APPLIED, Outcome.APPLIED),
    ],
)
def test_a_move_that_the_protocol_does_not_have_is_refused(current: Outcome, wanted: Outcome) -> None:
    with pytest.raises(OutcomeRefused, match=f"{current.value} cannot become {wanted.value}"):
        moves(current, wanted)
