"""What options mean."""

from __future__ import annotations

import pytest

from changeover.errors import UserError
from changeover.options import schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5m", (None, 300)), ("sessions=90s", ("sessions", 90)), ("a=b=1h", ("a=b", 3600)), ("200ms", (None, 0.2))],
)
def test_a_schedule_is_for_one_phase_or_for_all(text: str, expected: tuple[str | None, float]) -> None:
    assert schedule(text) == expected


@pytest.mark.parametrize("text", ["", "5", "0s", "sessions=", "-1m", "five minutes"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="sessions=90s"):
        schedule(text)
