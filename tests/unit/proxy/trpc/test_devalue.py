from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.transformers import DEVALUE, UNDEFINED, TransformerError
from proxy.trpc.values import BigInt, Tagged
from tests.unit.proxy.trpc.test_superjson import NOON, NOON_TEXT, VALUES


@pytest.mark.parametrize(
    ("text", "value", "plain"),
    [
        ("-1", UNDEFINED, UNDEFINED),
        ("-5", float("-inf"), None),
        ("[null]", None, None),
        ('[{"a":1,"b":-1},[2,2],"x"]', {"a": ["x", "x"], "b": UNDEFINED}, {"a": ["x", "x"]}),
        (f'[["Date","{NOON_TEXT}"]]', NOON, NOON_TEXT),
        ('[["BigInt","12"]]', BigInt(12), "12"),
        ('[["Set",1,-1],"a"]', Tagged("Set", ["a", UNDEFINED]), ["a", None]),
        ('[["Map",1,2],"k",{}]', Tagged("Map", [["k", {}]]), [["k", {}]]),
        ('[["RegExp","a/b","gi"]]', Tagged("RegExp", "/a/b/gi"), "/a/b/gi"),
        ('[["RegExp","a"]]', Tagged("RegExp", "/a/"), "/a/"),
        ('[["URL","http://x/"]]', Tagged("URL", "http://x/"), "http://x/"),
        ('[["Uint8Array",1],["ArrayBuffer","AP8="]]', b"\x00\xff", "AP8="),
        ('[["Money",1],{"amount":2},"1.20"]', Tagged("Money", {"amount": "1.20"}), {"amount": "1.20"}),
        ('[["Temporal.PlainDate","2024-01-02"]]', Tagged("Temporal.PlainDate", "2024-01-02"), "2024-01-02"),
        ('[["Date",""]]', Tagged("Date", ""), ""),
    ],
)
def test_reads_and_writes_what_devalue_does(text: str, value: object, plain: object) -> None:
    assert DEVALUE.decode(text) == value
    assert DEVALUE.plain(text) == plain
    assert json.loads(str(DEVALUE.encode(value))) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('[["null","a",1,"b",-1],5]', {"a": 5, "b": UNDEFINED}),
        ("[[1,-2,1],7]", [7, UNDEFINED, 7]),
        ("[[-7,4,2,1],9]", [UNDEFINED, UNDEFINED, 9, UNDEFINED]),
        ('[["Object",1],5]', Tagged("Object", 5)),
        ('[["Int16Array",1,0,2],["ArrayBuffer","AP8="]]', Tagged("Int16Array", ["AP8=", 0, 2])),
        ('[["Uint8Array",1],["ArrayBuffer","?"]]', Tagged("Uint8Array", ["?"])),
        ('[["BigInt",1.5]]', Tagged("BigInt", 1.5)),
        ('[["Odd"]]', Tagged("Odd", [])),
        ('[["Odd","x",{}]]', Tagged("Odd", ["x", {}])),
    ],
)
def test_what_python_lacks_stays_with_its_tag(text: str, value: object) -> None:
    assert DEVALUE.decode(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "0", "7", "-2", "-7", "-9", "{}", "null", "[[9]]", "[[-9]]", '[{"a":"b"}]', "[[1.5]]", "[[true]]"),
        *("[[-7,5000000000]]", "[[-7,2,5,0]]", "[[-7]]", '[["Odd",0]]', '[["A",1],["B",0]]', "NaN", '["a"'),
        "[" + ",".join(f"[{i + 1}]" for i in range(5000)) + ",1]",
    ],
)
def test_what_devalue_never_writes_is_refused(text: str) -> None:
    with pytest.raises(TransformerError):
        DEVALUE.plain(text)


@pytest.mark.parametrize("wire", [None, 5, ["x"], {"json": 1}])
def test_only_strings_are_devalue(wire: object) -> None:
    with pytest.raises(TransformerError):
        DEVALUE.plain(wire)


def test_a_cycle_is_one_object_and_ends_in_null_as_json() -> None:
    cyclic = DEVALUE.decode('[{"me":0}]')

    assert cyclic["me"] is cyclic
    assert DEVALUE.plain('[{"me":0}]') == {"me": None}
    assert json.loads(str(DEVALUE.encode(cyclic))) == [{"me": 0}]


def test_a_small_text_cannot_expand_without_end() -> None:
    doubling = [[i + 1, i + 1] for i in range(60)]

    with pytest.raises(TransformerError):
        DEVALUE.plain(json.dumps([*doubling, 1]))


@pytest.mark.parametrize("value", [{"__proto__": 1}, datetime(2024, 1, 1), {"a": object()}])  # noqa: DTZ001
def test_what_devalue_cannot_write_is_refused(value: object) -> None:
    with pytest.raises(TransformerError):
        DEVALUE.encode(value)


def tagged_for_devalue(value: object) -> object:
    if isinstance(value, Tagged):
        return Tagged("Set", tagged_for_devalue(value.value))
    if isinstance(value, list):
        return [tagged_for_devalue(item) for item in value]
    if isinstance(value, dict):
        return {key: tagged_for_devalue(member) for key, member in value.items()}
    return value


@given(VALUES.map(tagged_for_devalue))
def test_what_is_written_reads_back(value: object) -> None:
    assert DEVALUE.decode(DEVALUE.encode(value)) == value


REFERENCES = st.integers(-8, 6)
ELEMENTS = (
    st.none()
    | st.sampled_from(["a", 1.5, True])
    | st.lists(REFERENCES, max_size=4)
    | st.dictionaries(st.sampled_from(["a", "b"]), REFERENCES, max_size=3)
    | st.tuples(
        st.sampled_from(
            ["Date", "Set", "Map", "null", "Object", "BigInt", "RegExp", "ArrayBuffer", "Uint8Array", "Odd"]
        ),
        REFERENCES | st.just("x"),
        REFERENCES,
    ).map(list)
)


@given(st.lists(ELEMENTS, max_size=7))
def test_any_array_is_read_or_refused(elements: list[object]) -> None:
    with contextlib.suppress(TransformerError):
        json.dumps(DEVALUE.plain(json.dumps(elements)), default=lambda undefined: None)


def test_dates_have_a_zone() -> None:
    assert DEVALUE.encode(datetime(2024, 1, 2, tzinfo=UTC)) == '[["Date","2024-01-02T00:00:00.000Z"]]'
