"""Clients write, and proxy and legacy die, freeze or run out of disk, as a seed says: every promise is kept.

`make soak SEEDS=5000` plays more of them, and `make soak SEED=17` one of them again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.campaign import Figures, campaign
from tests.crash.script import KINDS, write_script

SEEDS = 200
BLOCK = 20
"""How many of them are played by one test, beside each other."""


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
async def test_no_acknowledged_write_is_lost_and_none_is_invented(tmp_path: Path, first: int) -> None:
    figures = Figures()
    await campaign(range(first, first + BLOCK), tmp_path, figures.add)

    assert not figures.failed, "\n\n".join(map(str, figures.failed))
    assert figures.runs == BLOCK
    assert figures.kills
    assert figures.acknowledged


def test_the_seeds_bring_every_kind_of_disaster_whether_phases_fail_open_or_closed() -> None:
    scripts = [write_script(seed) for seed in range(SEEDS)]

    assert {(script.kind, script.fail_open) for script in scripts} == {
        (kind, fail_open) for kind in KINDS for fail_open in (False, True)
    }


def test_a_seed_always_says_the_same() -> None:
    assert [write_script(seed) for seed in range(SEEDS)] == [write_script(seed) for seed in range(SEEDS)]
