"""What was seen becomes the events that a call owes, or a record of what was found; never both, never a guess."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.births import Birth, Candidate, Create
from proxy.conclusion import Case, Conclusions
from proxy.verdict import OBSERVED, Look, Sign
from shadow.contract import parse
from shadow.events import Effect, EntityKey
from shadow.journal import Outcome
from shadow.json import Json
from shadow.privacy import Privacy
from shadow.secrets import Keyring
from tests.support.doubts import in_doubt
from tests.support.proxy import KEYS

CONTRACT = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
list = { query = "note.list", input = "{}", items = "output.notes" }
key = "item.id"
fields = ["text", "pin"]
secret = ["pin"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'notes:' + output.id"
data = "{'id': output.id, 'text': output.text}"

[mutation."note.sign"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-signed"
channel = "'notes:' + output.token"
data = "{'id': output.id, 'token': output.token}"

[mutation."note.edit"]
entity = "note"
key = "input.id"
effect = "patch"
secret = ["pin"]
event = "note-edited"
channel = "'notes:' + input.id"
data = "{'id': input.id}"
set = "{'text': input.text, ?'pin': input.?pin}"
""",
    "notes.toml",
)
NOTE = CONTRACT.entities["note"]
KEY = EntityKey("note", "n")


def conclusions(states: Mapping[EntityKey, dict[str, Json]] | None = None) -> Conclusions:
    ids = itertools.count(1)
    return Conclusions(
        read_state=(states or {}).get,
        keys_of=lambda kind: (),
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(ids)}",
        privacy=Privacy(CONTRACT, Keyring.parse(KEYS)),
    )


def case(procedure: str, **given: Json) -> Case:
    return Case(in_doubt(procedure, given), CONTRACT.mutations[procedure], given)


def look(before: Any, predicted: Any, found: Any) -> Look:
    return Look(NOTE, KEY, before, predicted, found, frozenset(NOTE.fields))


def birth(sign: Sign, *keys: str) -> Birth:
    want = Create(7, NOTE, 0, {}, guessed=sign is Sign.OTHER)
    return Birth(want, [Candidate(key, {"text": key}, {"id": key, "text": key}) for key in keys], sign)


EDIT = case("note.edit", id="n", text="new")


def test_what_is_as_predicted_owes_the_event_that_its_answer_would_have_led_to() -> None:
    settlement = conclusions().settle(
        EDIT, [look({"text": "old"}, {"text": "new"}, {"text": "new"})], [], superseded=False
    )
    (draft,) = settlement.drafts

    assert (settlement.intent, settlement.outcome, settlement.detail) == (7, Outcome.APPLIED, "as_predicted")
    assert (draft.type, draft.channel, draft.entity, draft.change) == ("note-edited", "notes:n", KEY, {"text": "new"})
    assert (draft.cause, draft.actor) == ("intent:7", "ana")


def test_what_is_as_before_owes_nothing() -> None:
    settlement = conclusions().settle(
        EDIT, [look({"text": "old"}, {"text": "new"}, {"text": "old"})], [], superseded=False
    )

    assert (settlement.outcome, settlement.drafts) == (Outcome.NOT_APPLIED, ())


def test_what_is_neither_is_recorded_as_found_on_the_channel_of_the_entity() -> None:
    settlement = conclusions().settle(
        EDIT, [look({"text": "old"}, {"text": "new"}, {"text": "other"})], [], superseded=False
    )
    (draft,) = settlement.drafts

    assert settlement.outcome is Outcome.OBSERVED
    assert (draft.type, draft.channel, draft.effect, draft.change) == (
        OBSERVED,
        "notes:n",
        Effect.PUT,
        {"text": "other"},
    )
    assert draft.cause == "doubt:7"


def test_what_a_later_call_may_have_covered_is_observed_and_corrects_only_what_differs() -> None:
    seen = look({"text": "later"}, {"text": "new"}, {"text": "later"})
    settlement = conclusions().settle(EDIT, [seen], [], superseded=True)

    assert (settlement.outcome, settlement.detail, settlement.drafts) == (Outcome.OBSERVED, "superseded", ())


def test_a_found_creation_owes_its_event_as_if_the_item_were_its_answer() -> None:
    settlement = conclusions().settle(case("note.create"), [], [birth(Sign.APPLIED, "n")], superseded=False)
    (draft,) = settlement.drafts

    assert (settlement.outcome, draft.type, draft.entity) == (Outcome.APPLIED, "note-created", KEY)


def test_a_found_creation_whose_event_needs_more_than_the_item_is_recorded_as_found() -> None:
    settlement = conclusions().settle(case("note.sign"), [], [birth(Sign.APPLIED, "n")], superseded=False)
    (draft,) = settlement.drafts

    assert (settlement.outcome, settlement.detail) == (Outcome.OBSERVED, "as_found")
    assert (draft.type, draft.channel, draft.change) == (OBSERVED, "note:n", {"text": "n"})


def test_all_that_a_create_may_have_made_is_recorded_as_found() -> None:
    settlement = conclusions().settle(case("note.create"), [], [birth(Sign.OTHER, "m", "n")], superseded=False)

    assert settlement.outcome is Outcome.OBSERVED
    assert [(draft.type, draft.entity) for draft in settlement.drafts] == [
        (OBSERVED, EntityKey("note", "m")),
        (OBSERVED, EntityKey("note", "n")),
    ]


def test_a_call_that_left_nothing_to_look_at_was_not_applied() -> None:
    assert conclusions().settle(case("note.create"), [], [], superseded=False).outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("found", ["sk-secret-value", "sk-another-value"], ids=["owed", "observed"])
def test_what_the_contract_calls_secret_leaves_sealed(found: str) -> None:
    asked = case("note.edit", id="n", text="t", pin="sk-secret-value")
    seen = look({"text": "t"}, {"text": "t", "pin": "sk-secret-value"}, {"text": "t", "pin": found})
    settlement = conclusions().settle(asked, [seen], [], superseded=False)

    assert settlement.drafts
    assert found not in str(settlement.drafts)
