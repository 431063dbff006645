"""What an answer to a query says."""

from __future__ import annotations

import pytest

from reconcile.answers import Answer, Answered, Busy, PlainWire, Refused, read_answer
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
    assert read_answer(status, json.encode(body), PlainWire()) == expected


@pytest.mark.parametrize(("status", "expected"), [(502, Busy("HTTP 502")), (404, Refused("HTTP 404"))])
def test_what_is_not_trpc_is_judged_by_its_status(status: int, expected: Answer) -> None:
    assert read_answer(status, b"<html>", PlainWire()) == expected


class Broken:
    """A legacy that does not write what the contract says."""

    def decode(self, wire: Json) -> Json:
        raise ValueError("not superjson")

    def encode(self, value: Json) -> Json:
        return value


def test_an_answer_in_another_transformers_hand_is_refused() -> None:
    assert read_answer(200, json.encode({"result": {"data": 1}}), Broken()) == Refused("UNREADABLE")
