"""Whether a dual write costs more the more the log holds: the proxy before logs that were filled beforehand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench import figures
from bench.figures import Row
from bench.load import Load, available, load
from bench.log import fill
from bench.plan import OTHERS_CPU, SERVER_CPU, Plan
from bench.servers import FAST_LEGACY, changeover, nginx, nginx_available
from shadow.log import Log

WITHIN = 0.8
"""Throughput may fall by a fifth at most, whatever the log holds."""

ENTITIES = (1_000, 10_000, 100_000, 1_000_000)
EVENTS = (0, 100_000, 1_000_000, 5_000_000)
CONNECTIONS = 32

Point = tuple[int, int]
"""How many events, and of how many entities, a log is filled with."""


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure dual writes before logs of growing size, all of them in each round, and yield how the large compare."""
    if not (available() and nginx_available()):
        note = "nginx and wrk are not installed"
        name = "dual writes, a log with 10,000 entities"
        yield Row(name, "answers/s", figures.ratio(at_least=WITHIN), against="1,000 entities", note=note)
        return
    most = 5_000_000 if plan.full else 100_000 if plan.scale >= 1 else 10_000
    entities = [count for count in ENTITIES if count <= most]
    events = [count for count in EVENTS if count <= most]
    for row in await _curve(plan, [(count, count) for count in entities], "entities"):
        yield row
    for row in await _curve(plan, [(count, 1_000) for count in events], "events"):
        yield row


async def _curve(plan: Plan, points: Sequence[Point], of: str) -> list[Row]:
    """Return two rows for each point but the first, against the first: throughput and the middle latency."""
    loads: list[list[Load]] = [[] for _ in points]
    async with AsyncExitStack() as stack:
        legacy = await stack.enter_async_context(nginx(FAST_LEGACY, plan.folder / f"legacy-{of}", cpu=OTHERS_CPU))
        ports = []
        for index, point in enumerate(points):
            folder = plan.folder / f"{of}-{index}"
            await _fill(folder, point)
            ports.append((await stack.enter_async_context(changeover(legacy, folder, cpu=SERVER_CPU))).port)
        for number in range(plan.rounds + 1):  # the first warms what the operating system and SQLite keep in memory
            for index, (port, (_, entities)) in enumerate(zip(ports, points, strict=True)):
                found = await load(
                    f"http://127.0.0.1:{port}",
                    connections=CONNECTIONS,
                    seconds=plan.seconds,
                    mode="rename",
                    cpu=OTHERS_CPU,
                    sessions=entities,
                )
                if number:
                    loads[index].append(found)
    return [row for index in range(1, len(points)) for row in _compared(points, index, loads, of)]


async def _fill(folder: Path, point: Point) -> None:
    folder.mkdir()
    log = Log.open(f"sqlite:///{folder / 'log.db'}")
    await fill(log, *point)
    await log.close()


def _compared(points: Sequence[Point], index: int, loads: Sequence[Sequence[Load]], of: str) -> list[Row]:
    name, first = (f"{points[at][0 if of == 'events' else 1]:,} {of}" for at in (index, 0))
    name = f"dual writes, a log with {name}"
    mine, least = loads[index], loads[0]
    rates = tuple(each.rate for each in mine), tuple(each.rate for each in least)
    middles = tuple(each.p50 for each in mine), tuple(each.p50 for each in least)
    return [
        Row(name, "answers/s", figures.ratio(at_least=WITHIN), rates[0], rates[1], first),
        Row(f"{name}, p50", "ms", figures.ratio(at_most=1 / WITHIN), middles[0], middles[1], first),
    ]
