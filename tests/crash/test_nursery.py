"""The nursery's proxies are processes like any other, and none of them is ever left behind or waited for in vain."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.crash.nursery import Nursery, StillBorn, nursery
from tests.support.proxy import CONTRACT

AWAY = "http://127.0.0.1:9"
"""Where no legacy is; a proxy starts all the same."""


def arguments(folder: Path, *more: str) -> list[str]:
    database = f"sqlite:///{folder / 'log.db'}"
    named = ["--legacy", AWAY, "--contract", str(CONTRACT), "--database", database]
    return ["serve", *named, "--port", "0", "--admin-port", "0", "--initial-stage", "dualwrite", *more]


async def test_a_proxy_is_ready_and_dies_when_it_is_killed(tmp_path: Path) -> None:
    async with nursery() as proxies:
        child = await proxies.start(arguments(tmp_path), tmp_path / "proxy.log")
        assert child.ready.result()["pid"] == child.pid
        child.kill()
        await child.ended
        child.kill()

        assert child.was_killed


async def test_a_proxy_that_does_not_start_says_why(tmp_path: Path) -> None:
    async with nursery() as proxies:
        with pytest.raises(StillBorn, match="--nonsense"):
            await proxies.start(arguments(tmp_path, "--nonsense"), tmp_path / "proxy.log")


async def test_a_proxy_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    async with nursery() as proxies:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await proxies.start(arguments(tmp_path), tmp_path / "proxy.log")
        other = await proxies.start(arguments(tmp_path), tmp_path / "proxy.log")

        assert other.ready.done(), "the first one would still hold the log"


async def test_many_that_die_at_once_are_each_told_of_once(tmp_path: Path) -> None:
    async with nursery() as proxies:
        children = []
        for number in range(8):
            (folder := tmp_path / str(number)).mkdir()
            children.append(await proxies.start(arguments(folder), folder / "proxy.log"))
        for child in children:
            os.kill(child.pid, 9)
        async with asyncio.timeout(60):
            await asyncio.gather(*(child.ended for child in children))

        assert all(child.was_killed for child in children)


async def test_a_nursery_that_dies_ends_the_test(tmp_path: Path) -> None:
    async def outlive(proxies: Nursery) -> None:
        child = await proxies.start(arguments(tmp_path), tmp_path / "proxy.log")
        proxies.kill()
        child.kill()
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failed:
        async with asyncio.timeout(60), nursery() as proxies:
            await outlive(proxies)

    assert failed.group_contains(StillBorn, match="left")
