"""A first contract is guessed from what was observed; it is valid, and holds no value that was seen."""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.contract import Rule, parse
from shadow.contract.drafting import Observed, draft
from shadow.contract.shapes import MANY, Shape
from shadow.json import Json


def observed(
    procedure: str,
    *calls: tuple[Json, Json],
    kind: Literal["query", "mutation", "subscription"] = "mutation",
) -> Observed:
    seen = Observed(procedure, kind)
    for input_, output in calls:
        seen.input.add(input_)
        seen.output.add(output)
    return seen


def guessed(*seen: Observed) -> Rule:
    (rule,) = parse(draft(seen), "draft.toml").mutations.values()
    return rule


SESSION = {"id": "s1", "title": "Tea", "model": "m"}


def test_a_creation_takes_its_key_from_the_answer() -> None:
    rule = guessed(observed("session.create", ({"model": "m"}, SESSION), ({"model": "m", "title": "x"}, SESSION)))

    (draft_,) = rule.decide({"model": "m"}, SESSION, lambda key: None, 1, lambda: "id")
    assert (draft_.type, draft_.entity) == ("session-created", ("session", "s1"))
    assert draft_.data == {"sessionId": "s1", "model": "m"}
    assert draft_.change == {"model": "m", "title": "Tea"}


def test_an_update_is_named_after_what_it_updates() -> None:
    rule = guessed(observed("session.updateTitle", ({"sessionId": "s1", "title": "Tea"}, None)))

    (draft_,) = rule.decide({"sessionId": "s1", "title": "Tea"}, None, lambda key: None, 1, lambda: "id")
    assert (draft_.type, draft_.effect, draft_.entity) == ("session-title-updated", "patch", ("session", "s1"))
    assert draft_.change == {"title": "Tea"}


def test_a_router_of_settings_holds_other_entities() -> None:
    rule = guessed(observed("config.removeProvider", ({"providerId": "p"}, {"success": True})))

    assert (rule.events[0].type, rule.events[0].effect, rule.phase) == ("provider-removed", "delete", "provider")
    assert not rule.succeeded({}, {"success": False})


def test_secrets_are_guessed_by_their_names() -> None:
    call = {"providerId": "p", "config": {"apiKey": "k", "tokens": [{"token": "t"}]}}

    assert set(guessed(observed("config.updateProviderConfig", (call, None))).secret) == {
        "config.apiKey",
        "config.tokens.*.token",
    }


def test_the_queries_that_read_an_entity_are_found() -> None:
    text = draft(
        [
            observed("session.getRecent", ({}, {"sessions": [SESSION], "nextCursor": None}), kind="query"),
            observed("session.getById", ({"sessionId": "s1"}, SESSION), kind="query"),
            observed("session.delete", ({"sessionId": "s1"}, None)),
        ]
    )

    entity = parse(text, "draft.toml").entities["session"]
    assert entity.list is not None
    assert entity.list.query == "session.getRecent"
    assert entity.list.items_of({"sessions": [SESSION]})[0].value == SESSION
    assert entity.list.cursor_after({"nextCursor": 5}) == 5
    assert entity.get is not None
    assert (entity.get.query, entity.get.input_for("s1")) == ("session.getById", {"sessionId": "s1"})


def test_nothing_observed_makes_a_valid_contract_too() -> None:
    assert parse(draft([]), "draft.toml").mutations == {}


def test_keys_that_are_values_are_forgotten() -> None:
    shape = Shape().add({f"user-{index}": index for index in range(MANY + 1)}).add({"user-7": 1})

    assert shape.fields == {}


names = st.sampled_from(
    ["session", "config", "ab", "updateTitle", "create", "x", "deleteAll", "URL", "toggle2", "save"]
)
procedures = st.lists(names, min_size=1, max_size=3).map(".".join)
field_names = st.sampled_from(["id", "sessionId", "title", "apiKey", "in", "with-dash", 'quote"', "success", "true"])
secrets = st.text(min_size=12, max_size=20).map(lambda text: "VALUE-" + text)
values = st.recursive(
    secrets | st.integers(10**12, 10**13) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(field_names | secrets, inner, max_size=3),
)
kinds: st.SearchStrategy[Literal["query", "mutation", "subscription"]] = st.sampled_from(
    ["query", "mutation", "subscription"]
)


@settings(max_examples=30)
@given(
    calls=st.dictionaries(
        procedures, st.tuples(kinds, st.lists(st.tuples(values, values), min_size=1, max_size=3)), max_size=4
    )
)
def test_whatever_was_observed_the_draft_is_valid_and_holds_no_value(
    calls: dict[str, tuple[Literal["query", "mutation", "subscription"], list[tuple[Json, Json]]]],
) -> None:
    text = draft([observed(procedure, *seen, kind=kind) for procedure, (kind, seen) in calls.items()])

    contract = parse(text, "draft.toml")
    assert set(contract.mutations) == {procedure for procedure, (kind, _) in calls.items() if kind == "mutation"}
    assert "VALUE" not in text
    assert not any(str(number) in text for number in range(10**12, 10**12 + 3))
