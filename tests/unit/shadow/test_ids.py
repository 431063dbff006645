"""Ids sort by time and are UUIDs of version 7."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from shadow.ids import new_id, uuid7

times = st.integers(0, 2**48 - 1)
randomness = st.binary(min_size=10, max_size=10)


@given(times, randomness)
def test_an_id_is_a_uuid_that_holds_its_time(time: int, chance: bytes) -> None:
    found = uuid.UUID(uuid7(time, chance))
    assert (found.version, found.variant) == (7, uuid.RFC_4122)
    assert found.int >> 80 == time
    assert str(found) == uuid7(time, chance)


@given(times, times, randomness, randomness)
def test_ids_sort_by_time(one: int, other: int, first: bytes, second: bytes) -> None:
    if one < other:
        assert uuid7(one, first) < uuid7(other, second)


def test_ids_of_the_same_time_differ() -> None:
    assert len({new_id(5) for _ in range(1000)}) == 1000
