"""Expressions mean what CEL means, give plain JSON, and fail in sentences without values."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.expressions import CompileError, EvaluationError, Expression, Kind, Mistake, compile_expression
from shadow.json import Json

VARIABLES = frozenset({"input", "output", "state", "now", "id"})
CALL: dict[str, Json] = {
    "input": {"title": "Tea", "n": 2, "flag": True, "nothing": None, "tags": ["a", "b"], "deep": {"er": {"est": 1.5}}},
    "output": {"id": "s1"},
    "state": None,
    "now": 1_700_000_000_123,
    "id": "new",
}


def compiled(source: str, kind: Kind = Kind.ANY) -> Expression:
    return compile_expression(source, VARIABLES, kind)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("input.title", "Tea"),
        ("input.deep.er.est", 1.5),
        ("input['title']", "Tea"),
        ("'session:' + output.id", "session:s1"),
        ("{'sessionId': output.id, 'title': input.title}", {"sessionId": "s1", "title": "Tea"}),
        ("{'a': input.title, ?'b': input.?absent, ?'c': input.?n}", {"a": "Tea", "c": 2}),
        ("{?'a': input.?deep.?er.?absent}", {}),
        ("input.?absent.orValue('none')", "none"),
        ("input.?n.orValue(0)", 2),
        ("has(input.title) && !has(input.absent)", True),
        ("'title' in input", True),
        ("input.title in ['Tea', 'Coffee']", True),
        ("state == null ? 'added' : 'updated'", "added"),
        ("input.n == 2 || input.absent == 1", True),
        ("input.absent == 1 || input.n == 2", True),
        ("input.flag == 1", False),
        ("input.n == true", False),
        ("input.nothing", None),
        ("string(input.n)", "2"),
        ("string(input.deep.er.est)", "1.5"),
        ("input.title.upperAscii()", "TEA"),
        ("input.tags.map(tag, {'tag': tag})", [{"tag": "a"}, {"tag": "b"}]),
        ("input.tags.filter(tag, tag != 'a')[0]", "b"),
        ("now + 1", 1_700_000_000_124),
        ("timestamp(now / 1000)", "2023-11-14T22:13:20.000Z"),
        ("input.n * 3", 6),
        ("[input.title, ?input.?absent]", ["Tea"]),
        ("input", CALL["input"]),
    ],
)
def test_an_expression_gives_plain_json(source: str, value: Json) -> None:
    expression = compiled(source)

    assert expression.evaluate(CALL) == value
    assert expression.ask(CALL) == value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("input.absent", "`input` has no `absent`"),
        ("input.deep.absent.more", "`input.deep` has no `absent`"),
        ("input.title.more", "`input.title` is text, so it has no `more`"),
        ("state.title", "`state` is null, so it has no `title`"),
        ("state.?title.orValue('')", "`state` is null, so it has no `title`"),
        ("has(state.title)", "`state` is null, so it has no `title`"),
        ("'a' + input.absent", "`input` has no `absent`"),
        ("'a' + input.n", "'+' does not take (string, int64)"),
        ("{'a': input.nothing.b}", "`input.nothing` is null, so it has no `b`"),
        ("input[input.title]", "a key was read that is not there"),
        ("input.tags[7]", "a list has no element at the index that was read"),
        ("input.n / 0", "a number was divided by zero"),
        ("input.n ? 1 : 2", "a condition is neither true nor false"),
        ("input.n && true", "'&&' does not take values of these kinds"),
        ("9223372036854775807 + input.n", "a number is too big for an expression (whole numbers have 64 bits)"),
        ("1.0 / 0.0", "it gives something that JSON cannot hold (bytes, a duration, an infinite number)"),
        ("dyn(b'x')", "it gives something that JSON cannot hold (bytes, a duration, an infinite number)"),
        ("{input.n: 1}", "a map has a key that is not text"),
        ("{input.title: 1, 'Tea': 2}", "a map was given the same key twice"),
    ],
)
def test_a_failure_names_fields_and_never_values(source: str, message: str) -> None:
    with pytest.raises(EvaluationError) as failure:
        compiled(source).evaluate(CALL)

    assert str(failure.value) == message
    assert "Tea" not in str(failure.value)


@pytest.mark.parametrize(
    ("source", "mistakes"),
    [
        ("inptu.title", [Mistake(1, 1, "unknown name 'inptu'", "did you mean 'input'?")]),
        ("'a' + what", [Mistake(1, 7, "unknown name 'what'", "known here: id, input, now, output, state")]),
        (
            "input.title +\n whatt.x",
            [Mistake(2, 2, "unknown name 'whatt'", "known here: id, input, now, output, state")],
        ),
        ("'a' + now", [Mistake(1, 5, "'+' does not take (string, int)")]),
        ("b'bytes'", [Mistake(1, 1, "this gives bytes, which JSON cannot hold, but any JSON value is needed")]),
    ],
)
def test_a_mistake_is_told_when_the_contract_is_loaded(source: str, mistakes: list[Mistake]) -> None:
    with pytest.raises(CompileError) as failure:
        compiled(source)

    assert list(failure.value.mistakes) == mistakes


@pytest.mark.parametrize(
    "source",
    [
        "input.?a",
        "{'a': input.?a}",
        "{'a': dyn(input.?a)}",
        "[input.?a]",
        "[[input.?a]]",
        "input.?a.b",
        "[1].first()",
        "dyn([1].first())",
        "optional.none()",
        "{?'a': optional.of(input.?a)}",
        "[input].map(x, x.?a)",
        "{'a': [input].map(x, x.?a)}",
        "input.?a.orValue(input.?b)",
        "input.?a.optMap(x, x)",
        "type(input.?a)",
        "true ? input.?a : input.?b",
        "[1, 2].map(n, dyn(input.?a))",
    ],
)
def test_an_optional_value_never_escapes_because_it_would_crash_the_process(source: str) -> None:
    with pytest.raises(CompileError, match="an optional value"):
        compiled(source)


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("{'a': 1}", Kind.TEXT, "this gives an object, but text is needed"),
        ("'a'", Kind.BOOL, "this gives text, but true or false is needed"),
        ("true", Kind.KEY, "this gives true or false, but text or a whole number is needed"),
        ("[1]", Kind.OBJECT, "this gives a list, but an object is needed"),
    ],
)
def test_the_kind_of_a_result_is_checked_at_load_where_it_is_known(source: str, kind: Kind, message: str) -> None:
    with pytest.raises(CompileError) as failure:
        compiled(source, kind)

    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("input.n", Kind.TEXT, "it gives a number, but text is needed"),
        ("input.flag", Kind.KEY, "it gives true or false, but text or a whole number is needed"),
        ("input.nothing", Kind.OBJECT, "it gives null, but an object is needed"),
        ("input.title", Kind.ITEMS, "it gives text, but a list is needed"),
    ],
)
def test_the_kind_of_a_result_is_checked_again_when_it_is_there(source: str, kind: Kind, message: str) -> None:
    with pytest.raises(EvaluationError) as failure:
        compiled(source, kind).evaluate(CALL)

    assert str(failure.value) == message


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("input.title", {"input"}),
        ("'fixed'", set()),
        ("state == null && output.id != ''", {"state", "output"}),
        ("input.tags.map(id, id)", {"input"}),
        ("input.tags.map(tag, id + tag)", {"input", "id"}),
        ("{?'a': output.?b}", {"output"}),
        ("'output.id'", set()),
    ],
)
def test_an_expression_knows_the_variables_that_it_reads(source: str, variables: set[str]) -> None:
    assert compiled(source).variables == variables


def test_a_variable_that_is_not_given_is_an_error_only_where_it_is_needed() -> None:
    expression = compiled("state == null || output.id == 's1'")

    assert expression.evaluate({"state": None}) is True
    with pytest.raises(EvaluationError, match=r"^`output` is not known here$"):
        expression.evaluate({"state": {}})


@pytest.mark.parametrize(
    "source", ["input.title + ''", "input.title", "{'t': input.title + ''}.t", "[input][0].title + ''"]
)
def test_a_text_with_nul_characters_arrives_whole(source: str) -> None:
    """CEL's binding cuts a text at its first NUL; a title is not to be stored cut."""
    text = "a\0b\ufdd0c\\u0000"

    assert compiled(source).evaluate({"input": {"title": text, "ot\0her": 1}}) == text


@pytest.mark.parametrize("source", ["size(input.list) == 1", "size(input.list[0]) == 1 && input.list == input.list"])
def test_what_is_nested_too_deep_is_refused_instead_of_crashing(source: str) -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 100):
        deep = [deep]

    with pytest.raises(EvaluationError, match="nested too deep"):
        compiled(source).evaluate({"input": {"list": deep}})


def test_what_refers_to_itself_is_refused_instead_of_crashing() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(EvaluationError, match="nested too deep"):
        compiled("size(input.list)").evaluate({"input": {"list": loop}})


def test_a_number_beyond_64_bits_is_carried_along_but_not_calculated_with() -> None:
    huge = {"input": {"n": 2**70}}

    assert compiled("{'n': input.n}").evaluate(huge) == {"n": 2**70}
    with pytest.raises(EvaluationError, match="too big"):
        compiled("input.n + 1").evaluate(huge)


# --- what is compiled to Python means what CEL says ---

NAMES = ["a", "b", "c"]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.0, 1.0, 1.5])
    | st.sampled_from(["", "a", "x\0y", "1"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
)
literals = st.sampled_from(["null", "true", "false", "1", "-2", "'a'", "''", "'1'", "1.5"])
names = st.sampled_from(NAMES)
paths = st.builds(
    lambda root, fields: ".".join([root, *fields]), st.sampled_from(["input", "state"]), st.lists(names, max_size=3)
)
optional_paths = st.builds(
    lambda root, fields: ".?".join([root, *fields]),
    st.sampled_from(["input", "state", "input.a"]),
    st.lists(names, min_size=1, max_size=2),
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    entry = st.builds(lambda key, value: f"'{key}': {value}", names, inner)
    optional = st.builds(lambda key, path: f"?'{key}': {path}", names, optional_paths)
    return st.one_of(
        st.builds("({} == {})".format, inner, literals),
        st.builds("({} != {})".format, inner, literals),
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("(!{})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("('a' + {})".format, inner),
        st.builds("({} + {})".format, inner, inner),
        st.builds("({} + 's' + {})".format, inner, inner),
        st.builds("string({})".format, inner),
        st.builds("{}['a']".format, inner),
        st.builds("{}.orValue({})".format, optional_paths, inner),
        st.builds("('{}' in {})".format, names, inner),
        st.lists(inner, max_size=2).map(lambda parts: f"[{', '.join(parts)}]"),
        st.lists(entry | optional, max_size=3).map(lambda parts: f"{{{', '.join(parts)}}}"),
        paths.filter(lambda path: "." in path).map("has({})".format),
    )


sources = st.recursive(paths | literals, _grown, max_leaves=6)


def _result(evaluate: Any, given: dict[str, Json]) -> Any:
    try:
        return ("value", _exact(evaluate(given)))
    except EvaluationError as error:
        return ("error", str(error))


def _exact(value: Json) -> Any:
    """Make 1, 1.0 and true different."""
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return (type(value), value)


@given(source=sources, input=values, state=values)
def test_the_fast_way_gives_what_cel_gives(source: str, input: Json, state: Json) -> None:  # noqa: A002
    try:
        expression = compiled(source)
    except CompileError:
        return
    call = {"input": input, "state": state}

    assert _result(expression.evaluate, call) == _result(expression.ask, call)


@given(source=sources, input=values, state=values)
def test_handing_over_only_what_is_read_changes_nothing(source: str, input: Json, state: Json) -> None:  # noqa: A002
    try:
        expression = compiled(source)
        whole = compiled(f"[input, state].size() == 2 ? dyn({source}) : dyn(null)")
    except CompileError:
        return
    call = {"input": input, "state": state}
    pruned, unpruned = _result(expression.ask, call), _result(whole.ask, call)

    assert pruned[0] == unpruned[0]
    if pruned[0] == "value":
        assert pruned == unpruned


@given(value=st.floats() | st.integers() | st.text() | st.binary() | values)
def test_a_result_is_json_or_an_error(value: Any) -> None:
    try:
        result = compiled("[input][0]").evaluate({"input": value})
    except EvaluationError:
        return

    assert type(result) in {type(None), bool, int, float, str, list, dict}
    assert not isinstance(result, float) or math.isfinite(result)


anything = st.recursive(
    paths | optional_paths | st.sampled_from(["1", "'a'", "[1]", "optional.none()", "{}", "null"]),
    lambda inner: st.one_of(
        *(st.builds(form.format, inner) for form in (
            "dyn({})", "[{}]", "[?{}]", "{{'a': {}}}", "{{?'a': {}}}", "({}).value()", "({}).hasValue()",
            "[{}].first()", "[{}].map(x, x)", "optional.of({})", "({}).a", "({}).?a", "has(({}).a)", "[[{}]].flatten()",
            "type({})", "string({})", "[{}].sort()", "optional.unwrap([{}])", "[{}].filter(x, true)",
        )),
        *(st.builds(form.format, inner, inner) for form in (
            "({}).orValue({})", "({}).or({})", "({}).optMap(x, {})", "({}).optFlatMap(x, {})", "[{}].map(x, {})",
            "({}) == ({})", "(true ? {} : {})", "[{}] + [{}]", "[{}].exists(x, x == {})", "({}) in [{}]",
        )),
    ),
    max_leaves=5,
)  # fmt: skip


@given(source=anything, input=values)
def test_no_expression_that_loads_can_crash_the_process(source: str, input: Json) -> None:  # noqa: A002
    """There is no catching a crash: this test fails by taking the whole run down."""
    try:
        result = compiled(source).ask({"input": input, "state": input})
    except (CompileError, EvaluationError):
        return

    assert type(result) in {type(None), bool, int, float, str, list, dict}
