from __future__ import annotations

import json

import pytest

from proxy.trpc.envelopes import Failure, decode_answer
from proxy.trpc.errors import CODE_OF_NUMBER, ERRORS, error_body
from proxy.trpc.transformers import SUPERJSON, TRANSFORMERS


def test_an_error_body_has_the_shape_of_trpc() -> None:
    status, body = error_body("BAD_GATEWAY", "the API cannot be reached", path="post.create")

    assert status == 502
    assert json.loads(body) == {
        "error": {
            "message": "the API cannot be reached",
            "code": -32603,
            "data": {"code": "BAD_GATEWAY", "httpStatus": 502, "path": "post.create"},
        }
    }


def test_superjson_wraps_the_value_of_error() -> None:
    _, body = error_body("NOT_FOUND", "m", transformer=SUPERJSON)

    assert json.loads(body)["error"]["json"]["code"] == -32004


@pytest.mark.parametrize("transformer", sorted(TRANSFORMERS))
@pytest.mark.parametrize("code", ERRORS)
def test_every_code_reads_back_for_each_call(code: str, transformer: str) -> None:
    status, body = error_body(code, "m", transformer=TRANSFORMERS[transformer])

    for outcome in decode_answer(2, status, body, TRANSFORMERS[transformer]):
        assert isinstance(outcome, Failure)
        assert (outcome.code, outcome.status, outcome.number) == (code, status, ERRORS[code].number)


def test_the_shared_number_reads_as_an_internal_error() -> None:
    assert CODE_OF_NUMBER[-32603] == "INTERNAL_SERVER_ERROR"
