"""A proxy that only passes through, as a process of its own: `python -m tests.support.pass_through LEGACY_URL`.

Prints its port, serves until its stdin ends, and prints the most memory that it ever had, in bytes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from proxy.upstream import Upstream
from tests.support.scripted import proxied


async def main(url: str) -> None:
    async with proxied(Upstream(url)) as server:
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
    # Not getrusage: its maximum includes what the parent had before it became this program.
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) * 1024, flush=True)
