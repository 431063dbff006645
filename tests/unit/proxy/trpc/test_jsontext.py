from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.jsontext import MAX_DEPTH, NotJsonError, parse
from shadow import json as ours


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud83d"', "\ufffd"),
        (b'{"\\ud83d":"\\ud83d\\ude00"}', {"\ufffd": "😀"}),
        (b'"\\\\ud83d\\ud83d"', "\\ud83d\ufffd"),
        (b'"a\xff"', "a\ufffd"),
        (b"\xef\xbb\xbf1", 1),
        (b"9007199254740993", 9007199254740993),
        (b"1" * 60, int("1" * 60)),
        (b" [1 ]\n", [1]),
        ('"é"', "é"),
    ],
)
def test_reads_as_javascript_does(text: bytes | str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"NaN",
        b"-Infinity",
        b"[1,]",
        b"'a'",
        b'"\x01"',
        b"1e400",
        b"-1e400",
        b"9" * 5000,
        b"\xff",
        b"[" * 9000,
        b"01",
    ],
)
def test_refuses_what_is_no_json_or_beyond_us(text: bytes) -> None:
    with pytest.raises(NotJsonError):
        parse(text)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("prefix", [b"", b'{"a":1,"a":'])
def test_nesting_has_a_limit_and_width_has_none(prefix: bytes) -> None:
    suffix = b"}" if prefix else b""
    parse(prefix + nested(MAX_DEPTH - 1) + suffix)
    parse(prefix + b"[" + b"[]," * 5000 + b"[]]" + suffix)
    with pytest.raises(NotJsonError):
        parse(prefix + nested(MAX_DEPTH + 1) + suffix)


def test_an_error_quotes_nothing_of_the_text() -> None:
    with pytest.raises(NotJsonError) as raised:
        parse(b'{"apiKey":"sk-secret')

    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@given(st.binary(max_size=80) | st.text(max_size=80))
def test_whatever_is_read_can_be_written_again(text: bytes | str) -> None:
    try:
        value = parse(text)
    except NotJsonError:
        return
    ours.encode(value)


@given(
    st.text(st.characters(codec="utf-8"), max_size=10), st.floats(allow_nan=False, allow_infinity=False), st.integers()
)
def test_agrees_with_the_standard_library_on_json(text: str, number: float, integer: int) -> None:
    value = {"t": text, "n": [number], "i": integer}

    assert parse(json.dumps(value)) == value
