"""The proxy is killed at every named step of a mutation's way, at the first arrival and later, and keeps its promises.

The steps are enumerated from the program itself: a new one is tested here as soon as it has a name, and a step that
nothing comes to fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shadow.faults import POINTS, Point
from tests.crash.arena import Arena, arena
from tests.crash.evidence import Marks, facts_of
from tests.crash.nursery import nursery
from tests.crash.rounds import play
from tests.crash.script import script_for

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="here")
async def _here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    async with nursery() as proxies, arena(tmp_path_factory.mktemp("points"), proxies, fail_open=True) as here:
        yield here


@pytest.mark.parametrize("arrival", [1, 4])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_any_step_the_proxy_keeps_its_promises(here: Arena, point: Point, arrival: int) -> None:
    result = await play(here, script_for(point, arrival), Marks().behind(facts_of(here, ())))

    assert not result.violations, "\n".join(map(str, result.violations))
    assert result.reached == (point,), f"nothing came to {point} that often"
    assert result.acknowledged
