"""A proxy that only passes through, as a process of its own: `python -m tests.support.pass_through LEGACY_URL`.

Prints its port, serves until its stdin ends, and prints the most memory that it ever had, in bytes.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import uvloop

from proxy.upstream import Upstream
from tests.support.scripted import proxied


async def main(url: str) -> None:
    async with proxied(Upstream(url)) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
