"""The log by itself: appends, replay, and whether its cost grows with what it holds already."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from bench import figures
from bench.figures import Row
from bench.log import appends, fill, fresh, mutations, replay
from bench.plan import Plan
from shadow.log import Log

WITHIN = 0.8
"""Throughput may fall by a fifth at most, whatever the log holds."""


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    grouped, alone, replayed = [], [], []
    for _ in range(plan.rounds):
        async with fresh(None, plan.folder) as log:
            rate, _ = await appends(log, int(3_000 * plan.scale), 1)
            alone.append(rate)
        async with fresh(None, plan.folder) as log:
            rate, _ = await appends(log, int(60_000 * plan.scale), 1_000)
            grouped.append(rate)
            replayed.append(replay(log))
    yield Row("append to the log, group commit", "events/s", figures.own("events/s", at_least=30_000), tuple(grouped))
    yield Row(
        "append to the log, group commit",
        "events/s",
        figures.ratio(at_least=6),
        tuple(grouped),
        tuple(alone),
        "one event a transaction",
    )
    yield Row("replay into state", "events/s", figures.own("events/s", at_least=150_000), tuple(replayed))


ENTITIES = (1_000, 10_000, 100_000, 1_000_000)
EVENTS = (0, 100_000, 1_000_000, 5_000_000)


async def growth(plan: Plan) -> AsyncIterator[Row]:
    """Measure dual writes on logs of growing size, all of them in each round, and yield how the large compare."""
    most = None if plan.full else 100_000
    entities = [count for count in ENTITIES if most is None or count <= most]
    events = [count for count in EVENTS if most is None or count <= most]
    for row in await _curve(plan, [(count, count) for count in entities], "entities"):
        yield row
    for row in await _curve(plan, [(count, 1_000) for count in events], "events"):
        yield row


async def _curve(plan: Plan, points: list[tuple[int, int]], of: str) -> list[Row]:
    """Return a row for each point but the first, against the first; a point is events and entities in the log."""
    rates: list[list[float]] = [[] for _ in points]
    middles: list[list[float]] = [[] for _ in points]
    async with AsyncExitStack() as stack:
        logs: list[Log] = []
        for events, entities in points:
            log = await stack.enter_async_context(fresh(None, plan.folder))
            await fill(log, events, entities)
            logs.append(log)
        for number in range(plan.rounds + 1):  # the first warms what the operating system and SQLite keep in memory
            for index, (log, (_, entities)) in enumerate(zip(logs, points, strict=True)):
                rate, took = await mutations(log, int(20_000 * plan.scale), 128, entities)
                if number:
                    rates[index].append(rate)
                    middles[index].append(statistics.median(took))
    found: list[Row] = []
    for index, point in enumerate(points[1:], 1):
        name = f"dual writes into a log with {point[0 if of == 'events' else 1]:,} {of}"
        first = f"{points[0][0 if of == 'events' else 1]:,} {of}"
        unit, p50 = "mutations/s", f"{name}, p50"
        target = figures.ratio(at_least=WITHIN)
        found.append(Row(name, unit, target, tuple(rates[index]), tuple(rates[0]), first))
        target = figures.ratio(at_most=1 / WITHIN)
        found.append(Row(p50, "ms", target, tuple(middles[index]), tuple(middles[0]), first))
    return found
