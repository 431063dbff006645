"""What the log can do on this machine, alone: prints one JSON object of figures (`python -m bench.log`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from shadow.events import Draft, Effect, EntityKey
from shadow.ids import new_id
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.log import Log
from shadow.state import Fields, State, follow

NOW = 1_700_000_000_000


def key(number: int) -> EntityKey:
    """Keys as long as real ones, in no order."""
    return EntityKey("session", f"{number * 2654435761 % 2**32:08x}-7b1c-4f4e-9d53-0123456789ab")


def draft(entity: EntityKey, number: int) -> Draft:
    change: Fields = {"title": f"The title after change {number}", "updated": NOW + number}
    return Draft(
        id=new_id(NOW + number),
        channel=f"session:{entity.key}",
        type="session-title-updated",
        time=NOW + number,
        data={"sessionId": entity.key, **change},
        entity=entity,
        effect=Effect.PUT,
        change=change,
        actor="user:1",
        cause=f"intent:{number}",
    )


def intent(entity: EntityKey, number: int) -> NewIntent:
    return NewIntent(
        request=f"request-{number}",
        index=0,
        procedure="session.updateTitle",
        phase="sessions",
        stage_epoch=1,
        entity_key=entity,
        input={"sessionId": entity.key, "title": f"The title after change {number}"},
        actor="user:1",
        received=NOW + number,
        deadline=NOW + number + 30_000,
    )


async def rate(count: int, callers: int, work: Callable[[int], Awaitable[object]]) -> tuple[float, list[float]]:
    """Do `work` for each number below `count`, by so many callers; returns how many a second, and milliseconds each."""
    numbers = iter(range(count))
    took: list[float] = []

    async def caller() -> None:
        for number in numbers:
            before = time.perf_counter()
            await work(number)
            took.append((time.perf_counter() - before) * 1e3)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return count / (time.perf_counter() - start), took


async def appends(log: Log, count: int, callers: int) -> tuple[float, list[float]]:
    drafts = [draft(key(number % 1000), number) for number in range(count)]
    return await rate(count, callers, lambda number: log.append([drafts[number]]))


async def mutations(log: Log, count: int, callers: int, entities: int) -> tuple[float, list[float]]:
    """What a mirror asks of the log for each mutation: state, intent, then event with outcome."""
    choice = random.Random(7)
    keys = [key(choice.randrange(entities)) for _ in range(count)]

    async def mutation(number: int) -> None:
        entity = keys[number]
        log.state(entity)
        (id,) = await log.begin([intent(entity, number)])
        await log.settle([Settlement(id, Outcome.APPLIED, NOW + number, (draft(entity, number),))])

    return await rate(count, callers, mutation)


def replay(log: Log) -> float:
    states: dict[EntityKey, State] = {}
    count = 0
    start = time.perf_counter()
    for position, _, entity, effect, change in log.replay():
        states[entity] = follow(states.get(entity), position, effect, change)
        count += 1
    return count / (time.perf_counter() - start)


async def fill(log: Log, count: int, entities: int) -> None:
    """Append `count` events, the first of each entity first, in large transactions."""
    for start in range(0, count, 2000):
        await log.append([draft(key(number % entities), number) for number in range(start, min(start + 2000, count))])


@asynccontextmanager
async def fresh(url: str | None, beside: Path | None = None) -> AsyncIterator[Log]:
    """Open a log that is empty (unless `url` is not) and gone afterwards; its files are in the folder `beside`."""
    folder = Path(tempfile.mkdtemp(prefix="bench-log-", dir=beside or Path.cwd()))
    log = Log.open(url or f"sqlite:///{folder}/log.db")
    try:
        yield log
    finally:
        await log.close()
        shutil.rmtree(folder)


async def figures(scale: float, url: str | None) -> dict[str, float]:
    found: dict[str, float] = {}
    async with fresh(url) as log:
        found["append_one_by_one"], _ = await appends(log, int(4_000 * scale), 1)
    async with fresh(url) as log:
        found["append_grouped"], _ = await appends(log, int(60_000 * scale), 1_000)
        found["append_factor"] = found["append_grouped"] / found["append_one_by_one"]
        found["replay"] = replay(log)
    for callers in (1, 32, 128):
        async with fresh(url) as log:
            count = int((2_000 if callers == 1 else 40_000) * scale)
            found[f"dual_write_{callers}"], took = await mutations(log, count, callers, 1_000)
            found[f"dual_write_{callers}_p50_ms"] = statistics.median(took)
            found[f"dual_write_{callers}_p99_ms"] = statistics.quantiles(took, n=100)[98]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, 1 being a minute's")
    parser.add_argument("--database", help="a PostgreSQL URL to measure instead of SQLite; must be empty")
    given = parser.parse_args()
    found = uvloop.run(figures(given.scale, given.database))
    print(json.dumps({name: round(value, 3) for name, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()
