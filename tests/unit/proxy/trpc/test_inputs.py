from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.inputs import BodyKind, Malformed, body_kind, decode_inputs
from proxy.trpc.targets import Calls
from proxy.trpc.transformers import NONE, SUPERJSON, TRANSFORMERS, UNDEFINED

ONE = Calls(("a",), False)
TWO = Calls(("a", "b"), True)


def test_an_absent_input_is_undefined_and_null_is_null() -> None:
    assert decode_inputs(ONE, "POST", b"") == (UNDEFINED,)
    assert decode_inputs(ONE, "POST", b"null") == (None,)
    assert decode_inputs(TWO, "POST", b'{"1":null}') == (UNDEFINED, None)
    assert decode_inputs(TWO, "POST", b"") == (UNDEFINED, UNDEFINED)


def test_get_takes_its_input_from_the_query_and_post_never() -> None:
    calls = Calls(("a",), False, "1")

    assert decode_inputs(calls, "GET", b"2") == (1,)
    assert decode_inputs(calls, "POST", b"2") == (2,)
    assert decode_inputs(Calls(("a",), False, ""), "GET", b"") == (UNDEFINED,)


def test_inputs_of_a_batch_go_by_index_and_others_are_ignored() -> None:
    assert decode_inputs(TWO, "POST", b'{"1":[1],"0":{"x":2},"2":3,"01":4}') == ({"x": 2}, [1])


def test_each_input_of_a_batch_has_its_own_transformer_envelope() -> None:
    body = b'{"0":{"json":null,"meta":{"values":["undefined"],"v":1}},"1":{"json":{"a":1}}}'

    assert decode_inputs(TWO, "POST", body, SUPERJSON) == (UNDEFINED, {"a": 1})


def test_what_cannot_be_read_is_malformed_for_the_calls_it_concerns() -> None:
    assert all(isinstance(each, Malformed) for each in decode_inputs(TWO, "POST", b'{"0":'))
    assert all(isinstance(each, Malformed) for each in decode_inputs(TWO, "POST", b"[1,2]"))
    first, second = decode_inputs(TWO, "POST", b'{"0":{"json":1},"1":{"when":1}}', SUPERJSON)
    assert first == 1
    assert isinstance(second, Malformed)


def test_a_malformed_input_quotes_nothing() -> None:
    (malformed,) = decode_inputs(ONE, "POST", b'{"apiKey":"sk-secret')

    assert "secret" not in repr(malformed)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, BodyKind.JSON),
        (b"application/json", BodyKind.JSON),
        (b"application/json, application/json", BodyKind.JSON),
        (b"text/plain", BodyKind.JSON),
        (b"Multipart/Form-Data; boundary=x", BodyKind.OPAQUE),
        (b"application/octet-stream", BodyKind.OPAQUE),
    ],
)
def test_only_forms_and_bytes_are_opaque(content_type: bytes | None, kind: BodyKind) -> None:
    assert body_kind(content_type) is kind


@given(st.binary(max_size=60), st.sampled_from(sorted(TRANSFORMERS)), st.booleans())
def test_any_body_has_inputs_for_every_call(body: bytes, transformer: str, batch: bool) -> None:
    calls = Calls(("a", "b") if batch else ("a",), batch)

    assert len(decode_inputs(calls, "POST", body, TRANSFORMERS[transformer])) == len(calls.paths)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: st.lists(each) | st.dictionaries(st.text(), each),
        max_leaves=8,
    )
)
def test_json_inputs_come_as_they_were_sent(value: object) -> None:
    assert decode_inputs(ONE, "POST", json.dumps(value).encode(), NONE) == (value,)
