"""The reconciler reads every transformer that the proxy reads."""

from __future__ import annotations

import pytest

from changeover.wire import Translated, wire_of
from proxy.trpc.transformers import DEVALUE, SUPERJSON
from shadow.contract import parse
from shadow.json import Json
from tests.support.memory_legacy import CONTRACT


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"json": None, "meta": {"values": ["undefined"]}}, None),
        ({"json": {"a": 1}}, {"a": 1}),
        (
            {"json": {"when": "2026-01-01T00:00:00.000Z"}, "meta": {"values": {"when": ["Date"]}}},
            {"when": "2026-01-01T00:00:00.000Z"},
        ),
    ],
)
def test_superjson_is_read_as_events_have_it(wire: Json, expected: Json) -> None:
    assert Translated(SUPERJSON).decode(wire) == expected


@pytest.mark.parametrize("name", ["none", "superjson", "devalue"])
def test_what_is_written_comes_back(name: str) -> None:
    contract = parse(CONTRACT.replace('base_path = "/trpc"', f'base_path = "/trpc"\ntransformer = "{name}"'), "c")
    wire = wire_of(contract)
    value = {"sessionId": "s1", "limit": 100, "cursor": None}
    assert wire.decode(wire.encode(value)) == value


def test_what_is_not_devalue_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r".+"):
        Translated(DEVALUE).decode({"not": "a string"})
