"""How old an idle connection may be for what."""

from __future__ import annotations

import pytest

from proxy.upstream.pool import Limits, may_carry


@pytest.mark.parametrize(
    ("idle", "said", "safe", "may"),
    [
        (0.0, 5.0, False, True),
        (3.9, 5.0, False, True),
        (4.0, 5.0, False, False),  # a second before the legacy closes it
        (4.9, 5.0, True, True),
        (5.0, 5.0, True, False),
        (0.4, 1.0, False, True),
        (0.5, 1.0, False, False),
        (0.0, 0.0, False, False),
        (2.9, None, False, True),
        (3.0, None, False, False),  # Node closes after five seconds, said or not
        (59.0, None, True, True),
        (60.0, 600.0, True, False),
    ],
)
def test_a_mutation_keeps_its_distance_from_the_idle_limit(
    idle: float, said: float | None, safe: bool, may: bool
) -> None:
    assert may_carry(idle, said, Limits(), safe=safe) is may
