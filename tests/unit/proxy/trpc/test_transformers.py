from __future__ import annotations

from datetime import UTC, datetime

import pytest

from proxy.trpc.transformers import NONE, TRANSFORMERS, UNDEFINED, TransformerError
from proxy.trpc.values import BigInt


def test_none_hands_json_on_without_a_copy() -> None:
    wire = {"a": [1]}

    assert NONE.decode(wire) is wire
    assert NONE.plain(wire) is wire


def test_none_writes_what_json_stringify_would() -> None:
    value = {"u": UNDEFINED, "l": [UNDEFINED, float("nan")], "d": datetime(2024, 1, 2, 3, 4, 5, 678000, UTC)}

    assert NONE.encode(value) == {"l": [None, None], "d": "2024-01-02T03:04:05.678Z"}
    assert NONE.encode(UNDEFINED) is UNDEFINED
    assert NONE.encode(BigInt(2**70)) == str(2**70)


def test_a_value_of_no_wire_type_is_refused() -> None:
    for transformer in TRANSFORMERS.values():
        with pytest.raises(TransformerError):
            transformer.encode({"a": object()})


def test_transformers_go_by_the_names_of_the_contract() -> None:
    assert all(TRANSFORMERS[name].name == name for name in TRANSFORMERS)
