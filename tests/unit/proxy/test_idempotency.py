"""What a retry gets by what the log has kept under its key."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from proxy.idempotency import LOST, OTHER_REQUEST, STILL_UNKNOWN, Refused, look
from shadow.journal import Intent, KeptAnswer, Outcome


def intent(outcome: Outcome) -> Intent:
    return Intent(1, "r", 0, "p", None, 0, None, None, None, 0, 0, "key", outcome, None, None, None, 0)


def kept(answer: bytes | None, fingerprint: str = "same") -> KeptAnswer:
    return KeptAnswer(1, fingerprint, answer, 1000)


@dataclass
class Journal:
    """A log that says these things one after the other, the last one for ever."""

    answers: list[KeptAnswer | None]
    outcomes: list[Outcome] = field(default_factory=lambda: [Outcome.OPEN])

    def answer(self, idempotency: str, index: int, now: int) -> KeptAnswer | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def intent(self, id: int) -> Intent | None:
        return intent(self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0])


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        (Journal([None]), None),
        (Journal([kept(b"answer")]), b"answer"),
        (Journal([kept(b"answer", "another")]), OTHER_REQUEST),
        (Journal([kept(None)], [Outcome.OPEN]), STILL_UNKNOWN),
        (Journal([kept(None)], [Outcome.IN_DOUBT]), STILL_UNKNOWN),
        (Journal([kept(None)], [Outcome.APPLIED]), LOST),
    ],
)
def test_a_retry_gets_what_is_known(journal: Journal, expected: bytes | Refused | None) -> None:
    assert look(journal, "key", (0,), "same", 0) == expected


@pytest.mark.parametrize(("then", "expected"), [(kept(b"answer"), b"answer"), (None, None)])
def test_what_is_settled_between_two_reads_is_not_taken_for_lost(
    then: KeptAnswer | None, expected: bytes | None
) -> None:
    """The first read came before the commit and the second one after it: its answer is there, or its key is free."""
    assert look(Journal([kept(None), then], [Outcome.APPLIED]), "key", (0,), "same", 0) == expected
