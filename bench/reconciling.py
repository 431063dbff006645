"""The reconciler over many entities, beside reading the same pages and doing nothing with them."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from bench import figures
from bench.figures import Row
from bench.load import pinned
from bench.pages import CONTRACT
from bench.plan import OTHERS_CPU, SERVER_CPU, Plan
from bench.rounds import alternating
from bench.servers import ROOT, stopped

ENTITIES = 100_000


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    count = int(ENTITIES * plan.scale)
    folder = plan.folder / "reconcile"
    folder.mkdir()
    contract = folder / "contract.toml"
    contract.write_text(CONTRACT)
    database = f"sqlite:///{folder / 'log.db'}"
    await _run("fill", database, str(count))
    command = [*pinned(OTHERS_CPU), sys.executable, "-m", "bench.pages", "serve", str(count)]
    legacy = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT)
    try:
        assert legacy.stdout is not None
        port = str(json.loads(await legacy.stdout.readline())["port"])

        def reading(*words: str) -> Callable[[], Awaitable[float]]:
            async def once() -> float:
                found = json.loads(await _run(*words))
                if found.get("exit_code", 0) or found.get("entities", count) != count:
                    raise RuntimeError(f"the run went wrong: {found}")
                return float(found["seconds"])

            return once

        compared = reading("reconcile", port, database, str(contract))
        ours, theirs = await alternating(plan.rounds, compared, reading("bare", port))
    finally:
        await stopped(legacy)
    name = f"reconcile {count:,} entities"
    yield Row(name, "s", figures.ratio(at_most=1.3), tuple(ours), tuple(theirs), "bare httpx, same pages")


async def _run(*words: str, cpu: Sequence[int] = SERVER_CPU) -> bytes:
    command = [*pinned(cpu), sys.executable, "-m", "bench.pages", *words]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"bench.pages {words[0]} failed; see above")
    return output
