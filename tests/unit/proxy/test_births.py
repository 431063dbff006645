"""Which of the entities that turned up a create in doubt has made: each is attributed once, and none by a guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.births import MOST_STRANGERS, Candidate, Create, attribute, born_before, create_of, pair
from proxy.verdict import CannotTell, Sign
from shadow.contract import Rule, parse
from shadow.json import Json
from tests.support.doubts import RECEIVED, in_doubt

CONTRACT = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
list = { query = "note.list", input = "{}", items = "output.notes", lacks = ["b"] }
key = "item.id"
fields = ["a", "b"]

[mutation."note.create"]
channel = "'notes'"
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
data = "{'a': input.a, 'b': 'b'}"

[mutation."note.import"]
channel = "'notes'"
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
data = "output.note"

[mutation."note.edit"]
channel = "'notes'"
entity = "note"
key = "input.id"
effect = "put"
event = "note-edited"
data = "{'a': input.a}"

[mutation."note.add"]
channel = "'notes'"

[[mutation."note.add".events]]
when = "input.id == null"
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
data = "{'a': input.a}"

[[mutation."note.add".events]]
entity = "note"
key = "output.of"
effect = "patch"
event = "note-edited"
data = "{'a': input.a}"
""",
    "notes.toml",
)
ENTITY = CONTRACT.entities["note"]


def rule(procedure: str) -> Rule:
    return CONTRACT.mutations[procedure]


def create(intent: int, *, received: int = 0, **wanted: Json) -> Create:
    return Create(intent, ENTITY, received, wanted, guessed=True)


def candidate(key: str, **fields: Json) -> Candidate:
    return Candidate(key, fields, fields)


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_as_many_new_entities_as_can_be_are_attributed_each_to_one_create(wanted: list[int], found: list[int]) -> None:
    creates = [create(number, a=value) for number, value in enumerate(wanted)]
    candidates = [candidate(str(number), a=value) for number, value in enumerate(found)]
    pairs = pair(creates, candidates)

    assert len({one.key for one in pairs.values()}) == len(pairs)
    assert all(creates[intent].made(one) for intent, one in pairs.items())
    assert len(pairs) == sum(min(wanted.count(value), found.count(value)) for value in range(4))


def test_a_vague_create_leaves_the_only_fitting_entity_to_a_precise_one() -> None:
    pairs = pair([create(1), create(2, a="x")], [candidate("p", a="x"), candidate("q", a="y")])

    assert {intent: one.key for intent, one in pairs.items()} == {1: "q", 2: "p"}


def test_an_entity_older_than_the_create_was_not_made_by_it() -> None:
    old = Candidate("k", {"a": 1}, {"created": 1_700_000_000_000, "updated": 1_900_000_000_000})

    assert not create(1, received=1_800_000_000_000, a=1).made(old)
    assert create(1, received=1_700_000_030_000, a=1).made(old)


@pytest.mark.parametrize(
    ("item", "before"),
    [
        ({"createdAt": "2026-01-01T00:00:00Z"}, True),
        ({"created_at": 1_767_225_600}, True),
        ({"created": 1_767_225_600_000, "updated": 1_900_000_000_000}, True),
        ({"updated": 1_900_000_000_000, "seen": 1_767_225_600_000}, False),
        ({"createdAt": "2027-01-01T00:00:00Z"}, False),
        ({"count": 12, "created": True}, False),
        ("no object", False),
    ],
)
def test_an_items_own_times_tell_how_old_it_is(item: Json, before: bool) -> None:
    assert born_before(item, 1_780_000_000_000) is before


@pytest.mark.parametrize(
    ("procedure", "given", "made"),
    [
        ("note.create", {"a": 1}, 1),
        ("note.edit", {"id": "n", "a": 1}, 0),
        ("note.add", {"id": None, "a": 1}, 1),
        ("note.add", {"id": "n", "a": 1}, 0),
        ("note.add", {}, 0),
    ],
)
def test_a_create_has_no_name_where_only_its_answer_tells_the_key(procedure: str, given: Json, made: int) -> None:
    """What the call would not do by its input, or merely changes, brings nothing into being."""
    assert len(rule(procedure).unnamed(given, 0)) == made


def test_what_a_create_makes_is_known_from_the_contract_as_far_as_a_list_shows_it() -> None:
    (event,) = rule("note.create").unnamed({"a": 1}, 0)

    assert create_of(event, {"a": 1}, in_doubt("note.create", {"a": 1})) == Create(
        7, ENTITY, RECEIVED, {"a": 1}, guessed=False
    )


def test_what_only_the_answer_tells_is_guessed_from_fields_of_the_input() -> None:
    given = {"a": 1, "other": 2}
    (event,) = rule("note.import").unnamed(given, 0)

    assert create_of(event, given, in_doubt("note.import", given)) == Create(
        7, ENTITY, RECEIVED, {"a": 1}, guessed=True
    )


def test_a_create_gets_the_entity_that_fits_it_though_others_fit_too() -> None:
    birth = attribute(create(2, a=1), [create(1, a=2)], [candidate("p", a=2), candidate("q", a=1)])

    assert (birth.sign, [one.key for one in birth.found]) == (Sign.APPLIED, ["q"])


def test_a_create_for_which_nothing_is_left_was_not_applied() -> None:
    assert attribute(create(2, a=1), [create(1, a=1)], []).sign is Sign.NOT_APPLIED
    assert attribute(create(2, a=1), [create(1)], [candidate("p", a=3)]).sign is Sign.NOT_APPLIED


def test_what_a_guess_does_not_fit_may_be_its_all_the_same() -> None:
    """The legacy may have made something else of the input, so all that is new is recorded as it was found."""
    birth = attribute(create(1, a=1), [], [candidate("p", a=2), candidate("q", a=3)])

    assert (birth.sign, [one.key for one in birth.found]) == (Sign.OTHER, ["p", "q"])


def test_what_the_contract_says_exactly_is_never_guessed() -> None:
    exact = Create(1, ENTITY, 0, {"a": 1}, guessed=False)

    assert attribute(exact, [], [candidate("p", a=2)]).sign is Sign.NOT_APPLIED


def test_too_many_strangers_are_left_to_an_operator() -> None:
    strangers = [candidate(str(number), a=2) for number in range(MOST_STRANGERS + 1)]

    with pytest.raises(CannotTell, match="unidentified"):
        attribute(create(1, a=1), [], strangers)


def test_what_was_foretold_is_not_given_to_a_create_of_which_less_is_known() -> None:
    entity = CONTRACT.entities["note"]
    guess = Create(1, entity, RECEIVED, {}, guessed=True)
    more = Create(2, entity, RECEIVED, {"a": "x"}, guessed=True)
    foretold = Create(3, entity, RECEIVED, {"a": "x"}, guessed=False)
    found = [Candidate("k", {"a": "x"}, {})]

    assert attribute(guess, [more], found).sign is Sign.NOT_APPLIED
    assert attribute(more, [guess], found).sign is Sign.APPLIED
    assert attribute(more, [guess, foretold], found).sign is Sign.NOT_APPLIED
