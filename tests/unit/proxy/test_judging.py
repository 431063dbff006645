"""What an answer means: by itself, and by the contract where it carries a result."""

from __future__ import annotations

import pytest

from proxy.judging import (
    MAY_STILL_RUN,
    UNSUCCESSFUL,
    Call,
    Judges,
    kinds_made,
    spool_end,
    unproven,
    with_answer,
)
from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown
from proxy.trpc.values import UNDEFINED
from shadow.contract import parse
from shadow.events import EntityKey
from shadow.journal import Outcome, Settlement
from shadow.privacy import Privacy
from tests.support.mirrored import NOTES

SUCCESS = NOTES.replace('event = "note-edited"', 'success = "output.ok"\nevent = "note-edited"')
CONTRACT = parse(SUCCESS, "notes.toml")
JUDGES = Judges(lambda key: None, lambda entity: (), lambda: "event-1", Privacy(CONTRACT, None))


def edit() -> Call:
    return Call(0, "note.edit", {"id": "a", "text": "t"}, CONTRACT.mutations["note.edit"])


@pytest.mark.parametrize(
    ("outcome", "recorded"),
    [
        (Success(None), None),
        (Success(None, interrupted=True), (Outcome.IN_DOUBT, "answered:interrupted")),
        (Failure("CONFLICT", 409, proven=True), (Outcome.REJECTED, "CONFLICT")),
        (Failure("INTERNAL_SERVER_ERROR", 500, proven=False), (Outcome.IN_DOUBT, "answered:INTERNAL_SERVER_ERROR")),
        (Failure("TIMEOUT", 408, proven=False), (Outcome.IN_DOUBT, "TIMEOUT")),
        (Unknown("no envelope"), (Outcome.IN_DOUBT, "answered:no envelope")),
    ],
)
def test_only_a_proven_refusal_is_a_rejection(outcome: CallOutcome, recorded: tuple[Outcome, str] | None) -> None:
    assert unproven(outcome, answered=True) == recorded


@pytest.mark.parametrize("code", sorted(MAY_STILL_RUN))
def test_an_error_of_whoever_stands_before_the_legacy_does_not_end_a_call(code: str) -> None:
    recorded = unproven(Failure(code, 504, proven=False), answered=True)
    assert recorded == (Outcome.IN_DOUBT, code)


def test_a_result_is_judged_by_the_contract() -> None:
    applied = JUDGES.judge(edit(), {"ok": True}, intent=7, now=5, actor="me")
    (draft,) = applied.drafts
    assert (applied.intent, applied.outcome) == (7, Outcome.APPLIED)
    assert (draft.entity, draft.cause, draft.actor) == (EntityKey("note", "a"), "intent:7", "me")


def test_a_result_that_says_that_nothing_was_done_is_a_rejection() -> None:
    judged = JUDGES.judge(edit(), {"ok": False}, intent=7, now=5, actor=None)
    assert (judged.outcome, judged.detail, judged.drafts) == (Outcome.REJECTED, UNSUCCESSFUL, ())


def test_a_result_that_the_contract_cannot_read_is_in_doubt() -> None:
    judged = JUDGES.judge(edit(), None, intent=7, now=5, actor=None)
    assert judged.outcome is Outcome.IN_DOUBT
    assert judged.detail is not None
    assert judged.detail.startswith("contract:")


def test_what_has_no_rule_is_applied_as_unmapped() -> None:
    judged = JUDGES.judge(Call(0, "note.other", None, None), None, intent=7, now=5, actor=None)
    assert (judged.outcome, judged.detail) == (Outcome.APPLIED, "unmapped")


def test_the_spool_keeps_what_it_takes_to_judge_later() -> None:
    void = spool_end(2, Success(UNDEFINED), answered=True)
    assert (void.index, void.outcome, void.output, void.detail) == (2, "success", None, None)
    refused = spool_end(2, Failure("CONFLICT", 409, proven=True), answered=True)
    assert (refused.outcome, refused.detail) == ("rejected", "CONFLICT")


def test_an_answer_is_kept_by_the_first_call_that_is_final() -> None:
    doubt = Settlement(1, Outcome.IN_DOUBT, 0)
    done = [Settlement(intent, Outcome.APPLIED, 0) for intent in (2, 3)]
    assert [each.answer for each in with_answer([doubt, *done], b"x")] == [None, b"x", b""]
    refused = Settlement(4, Outcome.REJECTED, 0, detail="CONFLICT")
    assert with_answer([refused], b"x") == [refused], "asking again is asking for the first time"


def test_a_create_announces_the_kinds_that_it_makes_under_keys_to_come() -> None:
    upload = Call(0, "note.upload", {"contentType": "a/b", "size": 1}, CONTRACT.mutations["note.upload"])
    assert kinds_made(upload, 0) == {"note"}
    assert kinds_made(edit(), 0) == frozenset()
