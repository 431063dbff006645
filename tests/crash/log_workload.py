"""Writes to a log until it is killed, and says on its standard output what was acknowledged.

`python -m tests.crash.log_workload URL`, with CHANGEOVER_FAULT set; lines are `begun ID` and `settled ID EVENT`.
"""

from __future__ import annotations

import asyncio
import os
import sys

from shadow.events import EntityKey
from shadow.journal import Outcome, Settlement
from shadow.log import Log
from tests.support.facts import draft, intent


def say(line: str) -> None:
    """Write a line at once and whole, or not at all."""
    os.write(1, f"{line}\n".encode())


async def _mutate(log: Log, caller: int) -> None:
    key = EntityKey("session", f"s{caller}")
    for number in range(20):
        (id,) = await log.begin([intent(key, request=f"{caller}-{number}")])
        say(f"begun {id}")
        event = draft(f"e-{caller}-{number}", key, number=number)
        await log.settle([Settlement(id, Outcome.APPLIED, number, (event,))])
        say(f"settled {id} {event.id}")


async def _main(url: str) -> None:
    log = Log.open(url, lag=5)  # so short that states are swept up all the time
    async with asyncio.TaskGroup() as group:
        for caller in range(4):
            group.create_task(_mutate(log, caller))
    say("finished")


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
