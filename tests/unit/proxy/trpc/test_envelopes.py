from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown, decode_answer, read_envelope, verdict
from proxy.trpc.errors import ERRORS, error_shape
from proxy.trpc.transformers import SUPERJSON, TRANSFORMERS, UNDEFINED


def fail(code: str, message: str = "m") -> bytes:
    return json.dumps({"error": error_shape(code, message)}).encode()


def one(status: int, body: bytes) -> CallOutcome:
    (outcome,) = decode_answer(1, status, body)
    return outcome


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"result":{}}', UNDEFINED),
        (b'{"result":{"data":null}}', None),
        (b'{"result":{"data":false}}', False),
        (b'{"result":{"type":"data","data":{"a":[1]}},"id":null,"jsonrpc":"2.0"}', {"a": [1]}),
        (b'[{"result":{"data":1}}]', 1),
        (b' \n{"result":{"data":"\\ud83d"}}', "\ufffd"),
        (b'{"result":1,"result":{"data":2}}', 2),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 207, 418, 500])
def test_a_result_is_success_whatever_the_status(status: int, body: bytes, data: object) -> None:
    outcome = one(status, body)

    assert outcome == Success(data)
    assert verdict(outcome) == "applied"


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_an_error_is_proof_only_when_its_code_says_that_nothing_was_applied(code: str) -> None:
    outcome = one(ERRORS[code].status, fail(code))

    may_have_run = ERRORS[code].status >= 500 or code in {"TIMEOUT", "CLIENT_CLOSED_REQUEST", "UNSUPPORTED_MEDIA_TYPE"}
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.status) == (code, ERRORS[code].status)
    assert outcome.proven is not may_have_run
    assert verdict(outcome) == ("in_doubt" if may_have_run else "rejected")


def test_a_415_is_proof_when_it_complains_of_the_request() -> None:
    after_the_fact = "Cannot use stream-like response in non-streaming request - use httpBatchStreamLink"

    assert verdict(one(415, fail("UNSUPPORTED_MEDIA_TYPE", "Missing content-type header"))) == "rejected"
    assert verdict(one(415, fail("UNSUPPORTED_MEDIA_TYPE", 'Unsupported content-type "x'))) == "rejected"
    assert verdict(one(415, fail("UNSUPPORTED_MEDIA_TYPE", after_the_fact))) == "in_doubt"


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, fail("CONFLICT"), "CONFLICT"),
        (400, b'{"error":{"code":-32603,"message":"m","data":{"code":"CONFLICT","httpStatus":409}}}', "CONFLICT"),
        (409, b'{"error":{"code":-32009,"message":"m","data":{"code":"CONFLICT","httpStatus":500}}}', "CONFLICT"),
        (400, b'{"error":{"code":7,"message":"m"}}', "UNKNOWN"),
        (400, b'{"error":{}}', "UNKNOWN"),
    ],
)
def test_an_error_that_contradicts_itself_or_says_little_is_doubt(status: int, body: bytes, code: str) -> None:
    outcome = one(status, body)

    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.proven) == (code, False)


def test_a_formatter_may_leave_only_the_number() -> None:
    assert one(403, b'{"error":{"code":-32003,"message":"hidden"}}') == Failure("FORBIDDEN", 403, True, -32003)


def test_one_error_for_a_batch_is_every_calls_error() -> None:
    assert decode_answer(3, 400, fail("BAD_REQUEST")) == (Failure("BAD_REQUEST", 400, True, -32600),) * 3


def test_one_result_for_several_calls_says_nothing() -> None:
    assert {type(each) for each in decode_answer(2, 200, b'{"result":{}}')} == {Unknown}


def test_an_item_that_is_missing_is_unknown_and_the_others_keep_their_index() -> None:
    first, second = decode_answer(2, 207, b'[{"result":{"data":1}}]')

    assert first == Success(1)
    assert verdict(second) == "in_doubt"


def test_more_items_than_calls_cannot_be_told_apart() -> None:
    assert isinstance(one(200, b'[{"result":{}},{"result":{}}]'), Unknown)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"[5]",
        b"{}",
        b'{"result":5}',
        b'{"result":null}',
        b'{"error":null}',
        b'{"error":"nope"}',
        b'{"result":{},"error":{"code":-32600,"message":"m"}}',
        b'{"result":{"data":' + b"[" * 300 + b"]" * 300 + b"}}",
        b'{"result":{"data":' + b"[" * 90000,
        b'{"result":{"data":1e999}}',
        b'{"result":{"data":NaN}}',
        b'{"result":{"data":{}}',
    ],
)
@pytest.mark.parametrize("status", [200, 404, 502])
def test_anything_else_is_unknown(status: int, body: bytes) -> None:
    assert isinstance(one(status, body), Unknown)


def test_one_bad_item_does_not_spoil_the_others() -> None:
    first, second = decode_answer(2, 200, b'[{"result":7},{"result":{"data":2}}]')

    assert isinstance(first, Unknown)
    assert second == Success(2)


def test_a_transformed_result_is_read_through_its_transformer() -> None:
    date = b'{"json":{"d":"1970-01-01T00:00:00.000Z"},"meta":{"values":{"d":["Date"]},"v":1}}'
    body = b'[{"result":{"data":' + date + b'}},{"result":{"data":5}}]'
    first, second = decode_answer(2, 200, body, SUPERJSON)

    assert first == Success({"d": "1970-01-01T00:00:00.000Z"})
    assert isinstance(second, Unknown)


def test_an_error_that_bypassed_the_transformer_is_no_proof() -> None:
    (outcome,) = decode_answer(1, 401, fail("UNAUTHORIZED"), SUPERJSON)

    assert outcome == Failure("UNAUTHORIZED", 401, False, -32001)


def test_no_repr_holds_an_output_or_the_message_of_an_error() -> None:
    outcomes = [
        one(200, b'{"result":{"data":"sk-secret"}}'),
        one(500, fail("INTERNAL_SERVER_ERROR", "sk-secret")),
        one(200, b"sk-secret"),
        one(400, b'{"error":{"code":-32600,"message":"m","data":{"code":"sk-secret"}}}'),
    ]

    assert "secret" not in repr(outcomes)


@given(st.integers(0, 4), st.integers(100, 599), st.binary(max_size=120), st.sampled_from(sorted(TRANSFORMERS)))
def test_any_answer_has_an_outcome_for_every_call(count: int, status: int, body: bytes, transformer: str) -> None:
    assert len(decode_answer(count, status, body, TRANSFORMERS[transformer])) == count


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([-32603, -32600, "json", "-1"]),
    lambda each: (
        st.lists(each, max_size=4)
        | st.dictionaries(
            st.sampled_from(["result", "error", "data", "code", "json", "meta", "values"]) | st.text(max_size=3),
            each,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(sorted(TRANSFORMERS)))
def test_any_envelope_has_an_outcome_and_the_fast_way_agrees_with_the_slow(value: object, transformer: str) -> None:
    slow = b'{"a":"\\ud83d",' + json.dumps({"b": value}).encode()[1:]
    chosen = TRANSFORMERS[transformer]

    assert isinstance(read_envelope(value, 200, chosen), Success | Failure | Unknown)
    assert isinstance(decode_answer(1, 200, slow, chosen)[0], Unknown)
    if not isinstance(value, list):
        assert decode_answer(1, 200, json.dumps(value).encode(), chosen) == (read_envelope(value, 200, chosen),)
