"""How long a command takes before it is of use."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator

import httpx

from bench import figures
from bench.figures import Row
from bench.load import pinned
from bench.memory import plain_legacy
from bench.plan import SERVER_CPU, Plan
from bench.servers import ROOT, changeover


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    async with plain_legacy() as legacy:
        took = [await _first_answer(plan, legacy, number) for number in range(plan.rounds)]
    yield Row("start to first proxied request", "s", figures.own("s", at_most=1.0), tuple(took))
    took = [await _help() for _ in range(plan.rounds + 1)]
    yield Row("changeover --help", "s", figures.own("s", at_most=0.2), tuple(took[1:]))


async def _first_answer(plan: Plan, legacy: int, number: int) -> float:
    """Return seconds from the start of the process, with a log to be made, to an answer of the legacy."""
    start = time.perf_counter()
    async with changeover(legacy, plan.folder / f"start-{number}", cpu=SERVER_CPU) as running:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{running.port}/trpc/session.getRecent")
        took = time.perf_counter() - start
        answer.raise_for_status()
        return took


async def _help() -> float:
    start = time.perf_counter()
    command = [*pinned(SERVER_CPU), sys.executable, "-m", "changeover", "--help"]
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, cwd=ROOT)
    if await process.wait():
        raise RuntimeError("changeover --help failed")
    return time.perf_counter() - start
