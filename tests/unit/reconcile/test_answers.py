"""What an answer to a query says."""

from __future__ import annotations

import pytest

from reconcile.answers import Answer, Answered, Busy, Refused, encoded, read_answer
from shadow import json
from shadow.json import Json


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"result": {"data": [1]}}, Answered([1])),
        (200, {"result": {}}, Answered(None)),
        (201, {"result": {"data": None}}, Answered(None)),
        (404, {"error": {"message": "gone", "data": {"code": "NOT_FOUND"}}}, Refused("NOT_FOUND")),
        (
            404,
            {"error": {"message": 'No procedure found on path "x"', "data": {"code": "NOT_FOUND"}}},
            Refused("NOT_FOUND", unknown_procedure=True),
        ),
        (401, {"error": {"message": "no", "data": {"code": "UNAUTHORIZED"}}}, Refused("UNAUTHORIZED")),
        (403, {"error": {"code": -32003, "message": "hidden"}}, Refused("HTTP 403")),
        (429, {"error": {"message": "slow", "data": {"code": "TOO_MANY_REQUESTS"}}}, Busy("TOO_MANY_REQUESTS")),
        (
            500,
            {"error": {"message": "SELECT …", "data": {"code": "INTERNAL_SERVER_ERROR"}}},
            Busy("INTERNAL_SERVER_ERROR"),
        ),
    ],
)
def test_the_envelope_decides(status: int, body: Json, expected: Answer) -> None:
    assert read_answer(status, json.encode(body)) == expected


@pytest.mark.parametrize(("status", "expected"), [(502, Busy("HTTP 502")), (404, Refused("HTTP 404"))])
def test_what_is_not_trpc_is_judged_by_its_status(status: int, expected: Answer) -> None:
    assert read_answer(status, b"<html>") == expected


def test_superjson_is_unwrapped_and_undefined_is_left_out() -> None:
    data = {
        "json": {"a": None, "b": {"c.d": None, "when": "2026-01-01T00:00:00.000Z"}, "l": [{"u": None}]},
        "meta": {"values": {"a": ["undefined"], "b.c\\.d": ["undefined"], "l.0.u": ["undefined"], "b.when": ["Date"]}},
    }
    body = json.encode({"result": {"data": data}})
    assert read_answer(200, body, "superjson") == Answered({"b": {"when": "2026-01-01T00:00:00.000Z"}, "l": [{}]})
    nothing = json.encode({"result": {"data": {"json": None, "meta": {"values": ["undefined"]}}}})
    assert read_answer(200, nothing, "superjson") == Answered(None)
    assert encoded({"x": 1}, "superjson") == {"json": {"x": 1}}
