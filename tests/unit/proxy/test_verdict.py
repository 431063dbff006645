"""What a look at the legacy proves: never that a call was applied when it was not, nor the other way round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.mirror import COMMITTED_WITHIN
from proxy.upstream import Limits
from proxy.verdict import (
    FORWARDED_WITHIN,
    MOST_OTHERS,
    OBSERVED,
    Change,
    Fields,
    Look,
    Sign,
    alike,
    correction,
    differs,
    may_run_until,
    may_still_run,
    sign,
    supersedes,
    undone,
    verdict,
)
from shadow.contract import Entity, parse
from shadow.contract.rules import UNPREDICTABLE
from shadow.events import Effect, EntityKey
from shadow.journal import ANSWERED, QUARANTINED, Outcome
from shadow.json import Json
from shadow.state import fold
from tests.support.doubts import in_doubt

ENTITY: Entity = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["a", "b", "secret"]
secret = ["secret"]
mask = [{ field = "secret", keep = 3, text = "***" }]
blank = ["a"]
""",
    "notes.toml",
).entities["note"]
KEY = EntityKey("note", "n")
SHOWN = frozenset({"a", "b", "secret"})

values = st.one_of(st.none(), st.booleans(), st.integers(0, 2), st.sampled_from(["", "x", "y"]))
secrets = st.sampled_from(["sk-one-1", "sk-two-2", "no", "other-secret"])
fields_of_it = st.fixed_dictionaries({}, optional={"a": values, "b": values, "secret": secrets})
states = st.one_of(st.none(), fields_of_it)


def shown_by_legacy(fields: Fields | None) -> Fields | None:
    """The state as a careful legacy shows it: secrets masked."""
    if fields is None or "secret" not in fields:
        return fields
    return {**fields, "secret": ENTITY.masks[0].apply(fields["secret"])}


def value_of(fields: Fields | None, name: str) -> Json:
    """The value of a field; what the contract calls blank is absent when it is empty."""
    value = (fields or {}).get(name)
    return None if value == "" and name in ENTITY.blank else value


def look(before: Any, predicted: Any, found: Any, *, known: bool = True) -> Look:
    return Look(ENTITY, KEY, before, predicted, found, SHOWN, known)


@given(states, st.sampled_from(list(Effect)), fields_of_it)
def test_a_call_that_was_not_applied_is_never_taken_for_an_applied_one(
    before: Fields | None, effect: Effect, change: Fields
) -> None:
    seen = look(before, fold(before, effect, change), shown_by_legacy(before))

    assert sign(seen) is not Sign.APPLIED


@given(states, st.sampled_from(list(Effect)), fields_of_it)
def test_a_call_that_was_applied_is_never_taken_for_one_that_was_not(
    before: Fields | None, effect: Effect, change: Fields
) -> None:
    after = fold(before, effect, change)

    assert sign(look(before, after, shown_by_legacy(after))) is not Sign.NOT_APPLIED


@given(states, states, states, st.booleans())
@example({"secret": "sk-two-2"}, {"b": False, "secret": "sk-one-1"}, {}, True)
def test_what_the_legacy_shows_is_what_the_log_has_after_the_verdict(
    before: Fields | None, predicted: Fields | None, found: Fields | None, known: bool
) -> None:
    """The events of a verdict lead to a state that the legacy could show, in the fields that the call is about."""
    seen = look(before, predicted, shown_by_legacy(found), known=known)
    outcome, _ = verdict([sign(seen)])
    told = before
    if outcome is Outcome.APPLIED:
        told = predicted
    if outcome is Outcome.OBSERVED and differs(seen):
        draft = correction(seen, cause="doubt:1", channel="note:n", now=0, id="e", actor=None)
        told = fold(before, draft.effect, draft.change)

    assert (told is None) == (found is None)
    about = [name for name in SHOWN if value_of(before, name) != value_of(predicted, name)]
    if told is not None and before is not None and predicted is not None:
        shown = shown_by_legacy(found) or {}
        assert all(alike(ENTITY, name, told.get(name), shown.get(name)) for name in about)


def test_a_change_is_told_by_the_fields_that_it_is_about_alone() -> None:
    """A difference elsewhere is drift: it must not hide what became of this call."""
    assert sign(look({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 2, "b": 9})) is Sign.APPLIED
    assert sign(look({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 1, "b": 9})) is Sign.NOT_APPLIED
    assert sign(look({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1})) is Sign.OTHER


def test_a_delete_is_told_by_whether_the_entity_is_there() -> None:
    assert sign(look({"a": 1}, None, None)) is Sign.APPLIED
    assert sign(look({"a": 1}, None, {"a": 7})) is Sign.NOT_APPLIED
    assert sign(look(None, None, None)) is Sign.SAME


def test_an_entity_that_the_log_never_knew_proves_nothing_by_being_there() -> None:
    """It may have looked so all along: the log was begun after it, and nothing was imported."""
    assert sign(look(None, {"a": 1}, {"a": 1}, known=False)) is Sign.OTHER
    assert sign(look(None, {"a": 1}, None, known=False)) is Sign.NOT_APPLIED


def test_two_secrets_with_one_mask_cannot_be_told_apart() -> None:
    before, after = {"secret": "sk-one-1"}, {"secret": "sk-two-2"}

    assert sign(look(before, after, shown_by_legacy(after))) is Sign.OTHER


def test_without_a_prediction_an_unchanged_entity_means_that_nothing_happened() -> None:
    assert sign(look({"a": 1}, UNPREDICTABLE, {"a": 1})) is Sign.SAME
    assert sign(look({"a": 1}, UNPREDICTABLE, {"a": 2})) is Sign.OTHER


@pytest.mark.parametrize(
    ("signs", "superseded", "expected"),
    [
        ([Sign.SAME], False, (Outcome.NOT_APPLIED, "no_difference")),
        ([Sign.SAME, Sign.NOT_APPLIED], False, (Outcome.NOT_APPLIED, "as_before")),
        ([Sign.SAME, Sign.APPLIED], False, (Outcome.APPLIED, "as_predicted")),
        ([Sign.NOT_APPLIED, Sign.APPLIED], False, (Outcome.OBSERVED, "as_found")),
        ([Sign.APPLIED, Sign.OTHER], False, (Outcome.OBSERVED, "as_found")),
        ([Sign.NOT_APPLIED], True, (Outcome.OBSERVED, "superseded")),
        ([Sign.APPLIED], True, (Outcome.APPLIED, "as_predicted")),
    ],
)
def test_the_entities_of_a_call_speak_for_it_together(
    signs: list[Sign], superseded: bool, expected: tuple[Outcome, str]
) -> None:
    assert verdict(signs, superseded=superseded) == expected


def test_a_correction_keeps_a_secret_that_the_read_shows_only_masked() -> None:
    seen = look({"a": 1, "secret": "sk-one-1"}, {"a": 2, "secret": "sk-one-1"}, {"a": 3, "secret": "sk-***"})
    draft = correction(seen, cause="doubt:7", channel="note:n", now=5, id="e", actor="ana")

    assert (draft.type, draft.effect, draft.cause, draft.actor) == (OBSERVED, Effect.PUT, "doubt:7", "ana")
    assert draft.change == {"a": 3, "secret": "sk-one-1"}
    assert draft.data == {"entity": "note", "key": "n", "fields": {"a": 3}}


def test_a_correction_of_what_is_gone_deletes() -> None:
    draft = correction(look({"a": 1}, {"a": 2}, None), cause="doubt:7", channel="note:n", now=5, id="e", actor=None)

    assert (draft.effect, draft.change) == (Effect.DELETE, None)


def test_only_an_answer_shows_that_a_call_has_ended() -> None:
    assert not may_still_run(ANSWERED + "INTERNAL_SERVER_ERROR")
    assert not may_still_run(QUARANTINED + "unreadable")
    assert not may_still_run("contract:data")
    assert all(may_still_run(reason) for reason in (None, "reset", "crash", "response_timeout", "gateway:504"))


def test_an_event_of_a_later_call_or_of_the_same_request_hides_what_a_call_did() -> None:
    """The legacy runs the calls of one request in any order, whatever the numbers of their intents."""
    mine = replace(in_doubt("note.set", {}, id=5), request="mine")
    requests = {3: "other", 4: "mine", 5: "mine", 6: "other"}

    def hidden(cause: str | None) -> bool:
        return supersedes(cause, mine, requests.get)

    assert hidden("intent:4")
    assert hidden("doubt:4")
    assert hidden("intent:6")
    assert hidden("order:mine")
    assert not any(
        hidden(cause) for cause in ["intent:3", "doubt:3", "intent:5", "order:other", "import", "intent:x", None]
    )


def test_a_call_that_others_may_have_undone_is_not_taken_for_one_that_was_not_applied() -> None:
    def puts(value: int) -> Change:
        return lambda state: {"a": value}

    def deletes(state: Fields | None) -> Fields | None:
        return None

    absent = look(None, {"a": 1}, None)
    assert undone(absent, puts(1), [deletes])
    assert undone(look({"a": 1}, {"a": 2}, {"a": 1}), puts(2), [puts(1)])
    assert not undone(absent, puts(1), [])
    assert not undone(absent, puts(1), [puts(2)])
    assert undone(absent, puts(1), [lambda state: UNPREDICTABLE])
    assert undone(absent, puts(1), [puts(2)] * (MOST_OTHERS + 1))


def test_a_call_may_run_for_as_long_after_it_was_forwarded_as_the_contract_says() -> None:
    """Its intent may have waited for the log, and the call for a connection; a doubt cannot come before that."""
    intent_at, max_request = 1_000, 500
    assert may_run_until(intent_at + max_request, max_request, doubted=1_200) == 1_700
    assert may_run_until(intent_at + max_request, max_request, doubted=90_000) == 1_000 + FORWARDED_WITHIN + 500


def test_nothing_waits_for_longer_than_the_resolver_believes_before_it_is_forwarded() -> None:
    limits = Limits()
    waiting = round((limits.queue_timeout + limits.connect_timeout) * 1000)
    assert COMMITTED_WITHIN + waiting <= FORWARDED_WITHIN
