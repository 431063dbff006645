"""No mutation is handled under two stages."""

from __future__ import annotations

import asyncio

import pytest

from proxy.fence import Fence, FenceBusy


async def test_a_change_waits_until_what_is_inside_has_left() -> None:
    fence = Fence()
    inside = await fence.enter(["sessions"])
    order: list[str] = []

    async def change() -> None:
        async with fence.closed("sessions", timeout=30):
            order.append("changed")

    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        await asyncio.sleep(0)
        order.append("left")
        fence.leave(inside)

    assert order == ["left", "changed"]


async def test_what_comes_during_a_change_enters_after_it() -> None:
    fence = Fence()
    order: list[str] = []

    async def late() -> None:
        await fence.enter(["config", "sessions"])
        order.append("entered")

    async with asyncio.TaskGroup() as group, fence.closed("sessions", timeout=30):
        group.create_task(late())
        await asyncio.sleep(0)
        assert fence.inside("config") == 0, "it enters all of its phases or none"
        order.append("changed")

    assert order == ["changed", "entered"]


async def test_a_change_that_cannot_drain_is_refused_and_the_fence_opens_again() -> None:
    fence = Fence()
    await fence.enter(["sessions"])

    with pytest.raises(FenceBusy, match="1 mutation"):
        async with fence.closed("sessions", timeout=0.01):
            raise AssertionError("the block must not run")

    await asyncio.wait_for(fence.enter(["sessions"]), 30)
    assert fence.inside("sessions") == 2
