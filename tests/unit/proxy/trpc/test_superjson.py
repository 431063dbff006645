from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.transformers import SUPERJSON, UNDEFINED, TransformerError
from proxy.trpc.values import BigInt, Tagged

NOON = datetime(2024, 1, 2, 12, 0, 0, 5000, UTC)
NOON_TEXT = "2024-01-02T12:00:00.005Z"


def wire(payload: object, values: object, **meta: object) -> dict[str, object]:
    return {"json": payload, "meta": {"values": values, "v": 1, **meta}}


@pytest.mark.parametrize(
    ("written", "value", "plain"),
    [
        ({"json": {"a": 1}}, {"a": 1}, {"a": 1}),
        (wire(None, ["undefined"]), UNDEFINED, UNDEFINED),
        (wire(NOON_TEXT, ["Date"]), NOON, NOON_TEXT),
        (wire({"a.b": NOON_TEXT}, {"a\\.b": ["Date"]}), {"a.b": NOON}, {"a.b": NOON_TEXT}),
        (wire({"a\\": {"x": None}}, {"a\\\\.x": ["undefined"]}), {"a\\": {"x": UNDEFINED}}, {"a\\": {}}),
        (wire([None, "12"], {"0": ["undefined"], "1": ["bigint"]}), [UNDEFINED, BigInt(12)], [None, "12"]),
        (wire("Infinity", ["number"]), float("inf"), None),
        (wire([[1, NOON_TEXT]], ["map", {"0.1": ["Date"]}]), Tagged("map", [[1, NOON]]), [[1, NOON_TEXT]]),
        (wire([1, 2], ["set"]), Tagged("set", [1, 2]), [1, 2]),
        (wire([0, 255], [["typed-array", "Uint8Array"]]), b"\x00\xff", "AP8="),
        (wire("/ab+c/gi", ["regexp"]), Tagged("regexp", "/ab+c/gi"), "/ab+c/gi"),
        (
            wire({"x": "1.20"}, {"x": [["custom", "Decimal"]]}),
            {"x": Tagged(["custom", "Decimal"], "1.20")},
            {"x": "1.20"},
        ),
        (
            wire("+012345-01-01T00:00:00.000Z", ["Date"]),
            Tagged("Date", "+012345-01-01T00:00:00.000Z"),
            "+012345-01-01T00:00:00.000Z",
        ),
    ],
)
def test_reads_and_writes_what_superjson_does(written: object, value: object, plain: object) -> None:
    assert SUPERJSON.decode(written) == value
    assert SUPERJSON.plain(written) == plain
    assert SUPERJSON.encode(value) == written


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (
            {"json": {"a.b": 1, "a": {"b": None}}, "meta": {"values": {"a\\.b": ["bigint"], "a.b": ["undefined"]}}},
            {"a.b": Tagged("bigint", 1), "a": {"b": UNDEFINED}},
        ),
        (wire({"a": 1}, {"b.c": ["Date"], "a.x": ["Date"], "7": ["set"]}), {"a": 1}),
        (wire([1], {"9": ["Date"], "-1": ["Date"], "x": ["Date"]}), [1]),
        (wire("soon", ["Date"]), Tagged("Date", "soon")),
        (wire("2024-13-01T00:00:00.000Z", ["Date"]), Tagged("Date", "2024-13-01T00:00:00.000Z")),
        (wire("1.5", ["bigint"]), Tagged("bigint", "1.5")),
        (wire("x", ["number"]), Tagged("number", "x")),
        (wire(1, [{"odd": 1}]), Tagged({"odd": 1}, 1)),
        (wire(1, "odd"), 1),
        (wire(1, []), 1),
        (wire({"a": 1}, ["class", [["Date"]]]), Tagged("class", {"a": 1})),
    ],
)
def test_what_cannot_be_converted_stays_as_it_came(written: object, value: object) -> None:
    assert SUPERJSON.decode(written) == value


def test_decoding_leaves_the_wire_as_it_was() -> None:
    written = wire({"a": [NOON_TEXT]}, {"a.0": ["Date"]})
    SUPERJSON.decode(written)

    assert written == wire({"a": [NOON_TEXT]}, {"a.0": ["Date"]})


def test_shared_parts_are_copied_and_cycles_end_in_null() -> None:
    shared = {"json": {"a": {"x": 1}, "b": None}, "meta": {"referentialEqualities": {"a": ["b"]}, "v": 1}}
    cyclic = {"json": {"me": None, "l": [None]}, "meta": {"referentialEqualities": [["me", "l.0"], {}], "v": 1}}

    assert SUPERJSON.plain(shared) == {"a": {"x": 1}, "b": {"x": 1}}
    assert SUPERJSON.plain(cyclic) == {"me": None, "l": [None]}


def test_a_small_text_cannot_expand_without_end() -> None:
    doubling = [[None, None] for _ in range(60)]
    equalities = {str(i + 1): [f"{i}.0", f"{i}.1"] for i in range(59)}

    with pytest.raises(TransformerError):
        SUPERJSON.plain({"json": doubling, "meta": {"referentialEqualities": equalities, "v": 1}})


@pytest.mark.parametrize("written", [None, "x", [], {}, {"meta": {}}, {"json": 1, "meta": [1]}])
def test_what_superjson_never_writes_is_refused(written: object) -> None:
    with pytest.raises(TransformerError):
        SUPERJSON.plain(written)


@pytest.mark.parametrize("value", [{"__proto__": 1}, datetime(2024, 1, 1), {"a": object()}])  # noqa: DTZ001
def test_what_superjson_cannot_write_is_refused(value: object) -> None:
    with pytest.raises(TransformerError):
        SUPERJSON.encode(value)


def test_a_plain_integer_is_a_number_however_large() -> None:
    assert SUPERJSON.encode(2**60) == {"json": 2**60}
    assert SUPERJSON.encode(BigInt(5)) == wire("5", ["bigint"])


NO_EARLIER = datetime(1000, 1, 1)  # noqa: DTZ001 (hypothesis adds the zone)
KEYS = st.text("ab.\\0\u00e9", max_size=4).filter(lambda key: key not in {"__proto__", "constructor", "prototype"})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.integers().map(BigInt)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=4)
    | st.just(UNDEFINED)
    | st.datetimes(min_value=NO_EARLIER, timezones=st.just(UTC)).map(
        lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(KEYS, each, max_size=3)
        | st.lists(each, max_size=3).map(lambda items: Tagged("set", items))
    ),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_reads_back(value: object) -> None:
    assert SUPERJSON.decode(SUPERJSON.encode(value)) == value


TREES = st.recursive(
    st.sampled_from(["Date", "undefined", "bigint", "number", "set", "map", "class", 1, None, "0", "a"]),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "0", "1", "a.0", "0.1", "\\", "\\.", "referentialEqualities", "values"]),
            each,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(TREES, TREES, TREES)
def test_any_annotations_are_read_or_refused(payload: object, values: object, equalities: object) -> None:
    meta = {"values": values, "referentialEqualities": equalities, "v": 1}
    with contextlib.suppress(TransformerError):
        SUPERJSON.plain({"json": payload, "meta": meta})
