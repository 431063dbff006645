"""While somebody holds an entity nobody else touches it."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from shadow.events import EntityKey
from shadow.locks import EntityLocks

KEYS = [EntityKey("session", key) for key in "abcd"]
A, B = KEYS[:2]


holders = st.tuples(st.lists(st.sampled_from(KEYS), max_size=4), st.integers(0, 4))


@given(st.lists(holders, min_size=2, max_size=8))
def test_no_two_hold_the_same_key_and_all_come_to_an_end(wanted: list[tuple[list[EntityKey], int]]) -> None:
    held: list[EntityKey] = []
    locks = EntityLocks()

    async def holder(keys: list[EntityKey], turns: int) -> None:
        async with locks.hold(keys):
            assert not set(keys) & set(held)
            held.extend(set(keys))
            for _ in range(turns):
                await asyncio.sleep(0)
            for key in set(keys):
                held.remove(key)

    async def everybody() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for keys, turns in wanted:
                group.create_task(holder(keys, turns))

    asyncio.run(everybody())
    assert len(locks) == 0


async def test_who_came_first_gets_it_first() -> None:
    locks = EntityLocks()
    order: list[int] = []

    async def holder(number: int) -> None:
        async with locks.hold([A]):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(holder(number))
    assert order == [0, 1, 2, 3, 4]


async def test_whoever_gives_up_waiting_keeps_nothing() -> None:
    locks = EntityLocks()
    async with locks.hold([B]):
        waiting = asyncio.ensure_future(locks.acquire([A, B]))  # noqa: TID251 - it is cancelled on purpose
        await asyncio.sleep(0)
        assert locks.held(A)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert not locks.held(A)
    assert len(locks) == 0


async def test_a_lock_handed_over_to_a_cancelled_waiter_goes_on_to_the_next() -> None:
    locks = EntityLocks()
    taken = await locks.acquire([A])
    first = asyncio.ensure_future(locks.acquire([A]))  # noqa: TID251 - it is cancelled on purpose
    second = asyncio.ensure_future(locks.acquire([A]))  # noqa: TID251 - it waits behind the other
    await asyncio.sleep(0)
    locks.release(taken)
    first.cancel()
    locks.release(await asyncio.wait_for(second, 30))
    await asyncio.gather(first, return_exceptions=True)
    assert len(locks) == 0
