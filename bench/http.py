"""Requests through the proxy, beside nginx in its place and beside none at all."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable

from bench import figures
from bench.figures import Row, Target
from bench.load import Load, available, load
from bench.plan import OTHERS_CPU, SERVER_CPU, Plan
from bench.rounds import alternating
from bench.servers import (
    FAST_LEGACY,
    MIRROR,
    PROXY,
    changeover,
    example_legacy,
    nginx,
    nginx_available,
    node_modules_there,
)

THROUGHPUT = "answers/s"

PASS = (
    ("pass-through query, 32 connections", "nginx proxy_pass", THROUGHPUT, figures.ratio(at_least=0.60)),
    ("pass-through query, 1 connection, p50", "direct", "ms", figures.added("ms", at_most=0.20)),
)
DUAL = (
    ("durable dual write, 32 connections", "nginx mirror", THROUGHPUT, figures.ratio(at_least=1.0)),
    ("durable dual write, 128 connections", "nginx mirror", THROUGHPUT, figures.ratio(at_least=1.2)),
    ("durable dual write, 1 connection, p50", "direct", "ms", figures.added("ms", at_most=1.0)),
    ("durable dual write, 1 connection, p99", "direct", "ms", figures.added("ms", at_most=5.0)),
)
REAL = (
    (
        "durable dual write before the example legacy, 32 connections",
        "nginx proxy_pass",
        THROUGHPUT,
        figures.ratio(at_least=0.90),
    ),
)
Words = tuple[str, str, str, Target]


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    if not (available() and nginx_available()):
        for words in (*PASS, *DUAL, *REAL):
            yield _skipped(words, "nginx and wrk are not installed")
        return
    folder = plan.folder
    async with (
        nginx(FAST_LEGACY, folder / "legacy", cpu=OTHERS_CPU) as legacy,
        changeover(legacy, folder / "ours", cpu=SERVER_CPU) as running,
        nginx(PROXY, folder / "proxy", cpu=SERVER_CPU, legacy=legacy) as proxy,
        nginx(MIRROR, folder / "mirror", cpu=SERVER_CPU, legacy=legacy, sink=legacy) as mirror,
    ):
        ours = running.port
        yield await _throughput(PASS[0], plan, ours, proxy, connections=32, mode="query")
        mine, direct = await _both(plan, ours, legacy, connections=1, mode="query")
        yield _row(PASS[1], mine, direct, lambda each: each.p50)
        yield await _throughput(DUAL[0], plan, ours, mirror, connections=32, mode="rename")
        yield await _throughput(DUAL[1], plan, ours, mirror, connections=128, mode="rename")
        mine, direct = await _both(plan, ours, legacy, connections=1, mode="rename")
        yield _row(DUAL[2], mine, direct, lambda each: each.p50)
        yield _row(DUAL[3], mine, direct, lambda each: each.p99)
    yield await _before_the_example(plan)


async def _before_the_example(plan: Plan) -> Row:
    if shutil.which("node") is None or not node_modules_there():
        return _skipped(REAL[0], "the example legacy is not installed (make setup)")
    folder = plan.folder
    async with (
        example_legacy(folder / "example", cpu=OTHERS_CPU) as legacy,
        nginx(PROXY, folder / "before-example", cpu=SERVER_CPU, legacy=legacy) as port,
        changeover(legacy, folder / "ours-before-example", cpu=SERVER_CPU) as running,
    ):
        return await _throughput(REAL[0], plan, running.port, port, connections=32, mode="rename")


async def _throughput(words: Words, plan: Plan, ours: int, theirs: int, *, connections: int, mode: str) -> Row:
    mine, others = await _both(plan, ours, theirs, connections=connections, mode=mode)
    return _row(words, mine, others, lambda each: each.rate)


async def _both(plan: Plan, ours: int, theirs: int, *, connections: int, mode: str) -> tuple[list[Load], list[Load]]:
    def loading(port: int, seconds: int) -> Callable[[], Awaitable[Load]]:
        async def once() -> Load:
            url = f"http://127.0.0.1:{port}"
            found = await load(url, connections=connections, seconds=seconds, mode=mode, cpu=OTHERS_CPU)
            if found.failed:
                raise RuntimeError(f"{found.failed} requests failed under {connections} connections of {mode}")
            return found

        return once

    if plan.rounds > 1:
        await loading(theirs, 1)()  # to warm it
        await loading(ours, 1)()
    return await alternating(plan.rounds, loading(ours, plan.seconds), loading(theirs, plan.seconds))


def _row(words: Words, ours: list[Load], theirs: list[Load], figure: Callable[[Load], float]) -> Row:
    name, against, unit, target = words
    return Row(name, unit, target, tuple(map(figure, ours)), tuple(map(figure, theirs)), against)


def _skipped(words: Words, note: str) -> Row:
    name, against, unit, target = words
    return Row(name, unit, target, against=against, note=note)
