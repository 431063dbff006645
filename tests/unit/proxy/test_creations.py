"""Who changes an entity that the log does not know waits for the creates that began before, and for no others."""

from __future__ import annotations

import asyncio

from proxy.creations import Creations


async def test_whoever_comes_later_waits_until_every_earlier_create_has_ended() -> None:
    creations = Creations()
    first, second = creations.begin({"note"}), creations.begin({"note", "tag"})
    waiting = asyncio.get_running_loop().create_task(creations.ended("note"))
    await asyncio.sleep(0)
    first.end()
    await asyncio.sleep(0)
    assert not waiting.done()
    second.end()
    await waiting

    assert creations.open("note") == creations.open("tag") == frozenset()


async def test_a_create_that_begins_later_is_not_waited_for() -> None:
    creations = Creations()
    first = creations.begin({"note"})
    waiting = asyncio.get_running_loop().create_task(creations.ended("note"))
    await asyncio.sleep(0)
    later = creations.begin({"note"})
    first.end()
    await waiting

    assert creations.open("note") == {later.number}


async def test_who_looks_into_a_doubt_waits_for_no_other_doubt_and_writers_wait_for_all() -> None:
    creations = Creations()
    in_doubt, under_way = creations.begin({"note"}), creations.begin({"note"})
    creations.begin({"tag"})
    in_doubt.park()
    looking = asyncio.get_running_loop().create_task(creations.parked("note"))
    writing = asyncio.get_running_loop().create_task(creations.ended("note"))
    await asyncio.sleep(0)
    assert not looking.done()
    under_way.park()
    await looking
    under_way.end()
    await asyncio.sleep(0)
    assert not writing.done()
    in_doubt.end()

    await writing


async def test_ending_twice_ends_once() -> None:
    creations = Creations()
    first, other = creations.begin({"note"}), creations.begin({"note"})
    first.end()
    first.end()

    assert creations.open("note") == {other.number}
