"""The laws of the comparison."""

from __future__ import annotations

import base64
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.compare import (
    ABSENT,
    HIDDEN,
    Comparison,
    Difference,
    Facts,
    Ignore,
    Kind,
    Mark,
    Mask,
    Match,
    Mismatch,
    Path,
    Retry,
    Rules,
    Trace,
    Unverified,
    classify,
    compare,
    covers,
    decide,
    differences,
    kept,
    redacted,
    render,
    same,
)
from shadow.json import Json
from shadow.secrets import Keyring, SecretPath, seal

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2, width=16) | st.text(max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def naive_same(left: Json, right: Json) -> bool:
    """JSON equality written another way, to check ours against."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(naive_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(naive_same, left, right))
    return (type(left) in {int, float} and type(right) in {int, float} and left == right) or (
        isinstance(left, str) and isinstance(right, str) and left == right
    )


def put(root: Json, path: Path, value: Any) -> Json:
    """Return `root` with `value` at `path`; ABSENT removes."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    copy = deepcopy(root)
    if rest:
        copy[step] = put(copy[step], rest, value)
    elif value is not ABSENT and isinstance(copy, list) and step == len(copy):
        copy.append(value)
    elif value is not ABSENT:
        copy[step] = value
    elif isinstance(copy, dict):
        del copy[step]
    else:
        del copy[step:]
    return copy


@given(fields)
def test_a_value_does_not_differ_from_itself(value: Json) -> None:
    assert differences(value, deepcopy(value)) == ()


@given(fields, fields)
def test_no_difference_is_reported_exactly_when_both_are_the_same_json(left: Json, right: Json) -> None:
    assert (differences(left, right) == ()) == naive_same(left, right)


@given(fields, fields)
def test_swapping_the_sides_swaps_the_difference(left: Json, right: Json) -> None:
    swapped = tuple(Difference(one.path, one.log, one.legacy) for one in differences(right, left))
    assert differences(left, right) == swapped


@given(fields, fields)
def test_putting_the_logs_values_at_the_paths_makes_the_sides_the_same(left: Json, right: Json) -> None:
    """The differences are complete: nothing differs outside the paths they name."""
    patched = left
    for one in differences(left, right):
        patched = put(patched, one.path, one.log)
    assert same(patched, right)


@given(fields, fields, st.integers(1, 3))
def test_a_limit_gives_the_first_of_all_differences(left: Json, right: Json, limit: int) -> None:
    assert differences(left, right, limit=limit) == differences(left, right)[:limit]


@given(fields, fields)
def test_each_path_is_reported_once(left: Json, right: Json) -> None:
    paths = [one.path for one in differences(left, right)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("left", "right"), [(True, 1), (False, 0), (0, None), ("", None), ("1", 1), ([], {}), ([], None), (0, "")]
)
def test_values_of_different_json_types_differ(left: Json, right: Json) -> None:
    assert not same({"x": left}, {"x": right})
    assert not same({"x": right}, {"x": left})


@pytest.mark.parametrize(("left", "right"), [(1, 1.0), (0, -0.0), (2**53, float(2**53))])
def test_json_has_one_kind_of_number(left: Json, right: Json) -> None:
    assert same([{"x": left}], [{"x": right}])


def test_null_is_absent_only_where_the_contract_says_so() -> None:
    assert differences({"title": None}, {}) == (Difference(("title",), None, ABSENT),)
    assert differences({"title": None}, {}, Rules(absent_is_null=("title",))) == ()
    assert differences({"title": ""}, {}, Rules(absent_is_null=("title",))) != ()


def test_order_counts_in_a_list_unless_the_contract_says_it_does_not() -> None:
    left, right = {"rules": [{"id": 1}, {"id": 2}]}, {"rules": [{"id": 2.0}, {"id": 1}]}
    assert differences(left, right)
    assert differences(left, right, Rules(unordered=("rules",))) == ()
    assert differences(left, {"rules": [{"id": 1}]}, Rules(unordered=("rules",)))


def test_a_masked_secret_equals_the_secret_with_that_mask() -> None:
    rules = Rules(masks=(("config.apiKey", Mask(keep=4)),))
    assert differences({"config": {"apiKey": "sk-1***"}}, {"config": {"apiKey": "sk-12345"}}, rules) == ()
    assert differences({"config": {"apiKey": "sk-9***"}}, {"config": {"apiKey": "sk-12345"}}, rules) != ()
    assert differences({"other": "sk-1***"}, {"other": "sk-12345"}, rules) != ()


def test_an_agreement_hides_a_difference_until_its_last_day() -> None:
    rule = Ignore("session", "updated", "ann@example.org", "the legacy bumps it on reads", "2026-06-30")
    rules = Rules(ignored=(rule,))
    held = compare("session", {"updated": 1}, {"updated": 2}, rules, "2026-06-30")
    assert (held.differences, [agreed for _, agreed in held.ignored]) == ((), [rule])
    assert compare("session", {"updated": 1}, {"updated": 2}, rules, "2026-07-01").differences
    assert compare("message", {"updated": 1}, {"updated": 2}, rules, "2026-06-30").differences


def test_a_volatile_field_is_set_aside_and_listed() -> None:
    result = compare("session", {"seen": 1, "t": 1}, {"seen": 2, "t": 2}, Rules(volatile=("seen",)), "2026-01-01")
    assert [one.path for one in result.differences] == [("t",)]
    assert [one.path for one in result.volatile] == [("seen",)]


KEYS = Keyring.parse("k1:" + base64.b64encode(bytes(32)).decode())
SECRET = SecretPath.parse("key", keep=4)


def sealed(secret: str) -> Json:
    return seal({"key": secret}, [SECRET], KEYS, "here")["key"]


@pytest.mark.parametrize(("legacy", "log"), [("s3cret", None), ("s3cret", sealed("other-secret")), ("s3cret", "s3")])
def test_a_secret_is_never_told(legacy: Json, log: Json) -> None:
    rules = Rules(secret=("a.key",), keyring=KEYS)
    for ours, theirs in [({"a": {"key": legacy}}, {"a": {"key": log}}), ({"a": {"key": legacy}}, None)]:
        found = [redacted(one, rules) for one in compare("p", ours, theirs, rules, "2026-01-01").differences]
        assert found
        assert "s3" not in repr(found)
        assert "$sealed" not in repr(found)


@pytest.mark.parametrize("shown", ["sk-ant-12345678", "sk-a***"])
def test_a_sealed_secret_equals_what_the_legacy_shows_of_it(shown: str) -> None:
    """In clear or masked: some legacies mask only for providers that they know."""
    log = {"key": sealed("sk-ant-12345678")}
    rules = Rules(secret=("key",), masks=(("key", Mask(4)),), keyring=KEYS)
    assert compare("p", {"key": shown}, log, rules, "2026-01-01") == Comparison(())
    assert compare("p", {"key": "sk-b***"}, log, rules, "2026-01-01").differences


def test_without_the_key_a_secret_in_clear_is_not_compared_and_counted() -> None:
    rules = Rules(secret=("key",))
    found = compare("p", {"key": "sk-ant-12345678", "t": 1}, {"key": sealed("other"), "t": 2}, rules, "2026-01-01")
    assert ([one.path for one in found.differences], found.untold) == ([("t",)], 1)


def test_a_secret_that_a_call_carried_is_no_bypass() -> None:
    rules = Rules(secret=("key",), keyring=KEYS)
    found = (Difference(("key",), "sk-ant-12345678", sealed("other")),)
    assert classify(found, Trace(carried=({"key": sealed("sk-ant-12345678")},)), rules) is Kind.VALUE_DIFFERS
    assert classify(found, Trace(carried=({"key": sealed("third")},)), rules) is Kind.BYPASS_WRITE


def test_what_an_import_keeps_of_a_secret_in_clear_is_its_mask() -> None:
    rules = Rules(secret=("config.*.key", "pin"), masks=(("config.*.key", Mask(4)),))
    fields = {"config": {"a": {"key": "sk-secret"}, "b": {"key": "sk-s***"}}, "pin": 1234, "title": "T"}
    masked = {"config": {"a": {"key": "sk-s***"}, "b": {"key": "sk-s***"}}, "pin": HIDDEN, "title": "T"}
    assert kept(fields, rules) == masked
    assert (
        differences({"config": fields["config"], "title": "T"}, {"config": masked["config"], "title": "T"}, rules) == ()
    )


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("config.apiKey", ("config", "apiKey"), True),
        ("config", ("config", "apiKey"), True),
        ("config.*.key", ("config", "a", "key"), True),
        ("list.*.key", ("list", 3, "key"), True),
        ("config.apiKey", ("config",), False),
        ("*", (), True),
        ("title", (), False),
        ("title", ("titles",), False),
    ],
)
def test_a_pattern_covers_what_it_names_and_everything_below(pattern: str, path: Path, expected: bool) -> None:
    assert covers(pattern, path) is expected


def test_a_path_reads_as_people_write_it() -> None:
    assert render(("config", "models", 2, "name")) == "config.models[2].name"
    assert render(()) == "(whole)"


QUIET = Mark(7)


def facts(before: Mark = QUIET, after: Mark = QUIET, *, equal: bool = True, attempt: int = 1, **more: Any) -> Facts:
    return Facts(before, after, equal, attempt, attempts=3, **more)


def test_quiet_reads_prove_a_match_or_a_mismatch_at_their_position() -> None:
    assert decide(facts()) == Match(7)
    assert decide(facts(equal=False)) == Mismatch(7)


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        (QUIET, Mark(8), {}),
        (Mark(7, open_intents=(3,)), QUIET, {}),
        (QUIET, Mark(7, open_intents=(4,)), {}),
        (QUIET, QUIET, {"came_and_went": (4,)}),
        (QUIET, QUIET, {"failure": "HTTP 500"}),
    ],
)
@pytest.mark.parametrize("equal", [True, False])
def test_any_sign_of_a_write_in_flight_proves_nothing(
    before: Mark, after: Mark, more: dict[str, Any], equal: bool
) -> None:
    assert isinstance(decide(facts(before, after, equal=equal, **more)), Retry)
    assert isinstance(decide(facts(before, after, equal=equal, attempt=3, **more)), Unverified)


@pytest.mark.parametrize("more", [{"keyless": (9,)}, {"turned_out": (9,)}])
def test_a_call_without_a_key_excuses_a_difference_but_does_not_spoil_a_match(more: dict[str, Any]) -> None:
    assert isinstance(decide(facts(equal=False, **more)), Retry)
    assert decide(facts(**more)) == Match(7)


def test_a_doubt_that_stays_is_named_as_one() -> None:
    doubt = Mark(7, open_intents=(3,))
    verdict = decide(facts(doubt, doubt, attempt=3, doubtful=(3,)))
    assert verdict == Unverified("intent 3 was open", in_doubt=True)


def test_a_legacy_that_cannot_be_read_leaves_the_key_unverified() -> None:
    assert decide(facts(failure="HTTP 500", attempt=3, doubtful=(3,))) == Unverified("HTTP 500")


def difference(legacy: Any, log: Any, *path: str) -> Difference:
    return Difference(path, legacy, log)


@pytest.mark.parametrize(
    ("found", "trace", "kind"),
    [
        (difference({"t": 1}, ABSENT), Trace(), Kind.MISSING_IN_LOG),
        (difference({"t": 1}, ABSENT), Trace(imported=True), Kind.BYPASS_WRITE),
        (difference({"t": 1}, ABSENT), Trace(imported=True, events=2), Kind.MISSING_IN_LOG),
        (difference(ABSENT, {"t": 1}), Trace(), Kind.EXTRA_IN_LOG),
        (difference("b", "a", "t"), Trace(carried=({"title": "a"},), intents=1), Kind.BYPASS_WRITE),
        (difference("b", "a", "t"), Trace(carried=({"title": "a"}, {"title": "b"}), intents=2), Kind.VALUE_DIFFERS),
        (difference("b", "a", "t"), Trace(ambiguous=True), Kind.BYPASS_WRITE),
        (difference("b", "a", "t"), Trace(unmapped=True), Kind.VALUE_DIFFERS),
        (difference({"t": 1}, ABSENT), Trace(imported=True, unmapped=True), Kind.MISSING_IN_LOG),
        (difference("b", "a", "t"), Trace(carried=({"title": "b"},), ambiguous=True), Kind.ORDER_AMBIGUOUS),
        (difference(ABSENT, {"t": 1}), Trace(ambiguous=True), Kind.ORDER_AMBIGUOUS),
        (difference(ABSENT, "a", "t"), Trace(carried=({"title": "a"},)), Kind.BYPASS_WRITE),
    ],
)
def test_a_difference_is_named_by_what_the_journal_knows_of_it(found: Difference, trace: Trace, kind: Kind) -> None:
    assert classify((found,), trace) is kind
