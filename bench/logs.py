"""The log by itself: appends and replay."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bench import figures
from bench.figures import Row
from bench.log import appends, fresh, replay
from bench.plan import Plan


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
