"""Where the processor's time goes for one answer: `python -m bench.processor`.

Throughput on one processor is bound by what one answer costs there. This tells what it costs, by thread and by side
of the kernel's border, for the proxy and for nginx in its place; it varies less with what else runs than rates do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from bench.load import available, load
from bench.plan import OTHERS_CPU, SERVER_CPU
from bench.servers import FAST_LEGACY, MIRROR, PROXY, ROOT, changeover, nginx, nginx_available

TICKS = os.sysconf("SC_CLK_TCK")
"""How many of /proc's units of processor time make a second."""

HEADINGS = ("what", "connections", "answers/s", "by", "thread", "user µs", "kernel µs")


class Thread(NamedTuple):
    """One thread of a process, by the kernel's number and name."""

    number: int
    name: str


class Spent(NamedTuple):
    """Processor time of one thread, in seconds."""

    user: float
    kernel: float


class Cost(NamedTuple):
    """What one answer cost in one thread, in microseconds."""

    thread: str
    user: float
    kernel: float


def spent(pid: int) -> dict[Thread, Spent]:
    """Return what each thread of a process has spent."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[Thread(int(task.name), name)] = Spent(int(fields[11]) / TICKS, int(fields[12]) / TICKS)
    return found


def costs(before: Mapping[Thread, Spent], after: Mapping[Thread, Spent], answers: float) -> list[Cost]:
    """Return the costs of one answer by thread, leaving out threads that did next to nothing."""
    found = []
    for thread, now in after.items():
        then = before.get(thread, Spent(0, 0))
        user, kernel = ((end - start) * 1e6 / answers for start, end in zip(then, now, strict=True))
        if user + kernel > 0.5:
            found.append(Cost(thread.name, user, kernel))
    return found


async def measured(port: int, pid: int, *, mode: str, connections: int, seconds: int) -> tuple[float, list[Cost]]:
    """Load a server for a while; returns its rate and what one answer cost."""
    url = f"http://127.0.0.1:{port}"
    await load(url, connections=connections, seconds=1, mode=mode, cpu=OTHERS_CPU)
    before = spent(pid)
    found = await load(url, connections=connections, seconds=seconds, mode=mode, cpu=OTHERS_CPU)
    return found.rate, costs(before, spent(pid), found.rate * seconds)


async def worker(folder: Path) -> int:
    """Return the process of an nginx's one worker, which may come a moment after its port."""
    for _ in range(500):
        with suppress(OSError, ValueError):
            master = int((folder / "nginx.pid").read_text())
            if children := Path(f"/proc/{master}/task/{master}/children").read_text().split():
                return int(children[0])
        await asyncio.sleep(0.01)
    raise RuntimeError(f"the nginx in {folder} has no worker")


async def rows(folder: Path, seconds: int) -> list[tuple[str, ...]]:
    """Measure everything."""
    found: list[tuple[str, ...]] = []
    async with (
        nginx(FAST_LEGACY, folder / "legacy", cpu=OTHERS_CPU) as legacy,
        changeover(legacy, folder / "ours", cpu=SERVER_CPU) as ours,
        nginx(PROXY, folder / "proxy", cpu=SERVER_CPU, legacy=legacy) as proxy,
        nginx(MIRROR, folder / "mirror", cpu=SERVER_CPU, legacy=legacy, sink=legacy) as mirror,
    ):
        for what, mode, connections, port, pid, by in (
            ("pass-through", "query", 32, proxy, await worker(folder / "proxy"), "nginx proxy_pass"),
            ("pass-through", "query", 32, ours.port, ours.pid, "changeover"),
            ("dual write", "rename", 32, mirror, await worker(folder / "mirror"), "nginx mirror"),
            ("dual write", "rename", 32, ours.port, ours.pid, "changeover"),
            ("dual write", "rename", 128, ours.port, ours.pid, "changeover"),
        ):
            rate, parts = await measured(port, pid, mode=mode, connections=connections, seconds=seconds)
            for part in parts:
                numbers = f"{part.user:.1f}", f"{part.kernel:.1f}"
                found.append((what, str(connections), f"{rate:,.0f}", by, part.thread, *numbers))
    return found


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that nginx's worker may enter, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=ROOT))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.processor", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="how long each load lasts")
    given = parser.parse_args()
    if not (available() and nginx_available()):
        print("not measured: nginx and wrk are not installed")
        return
    table = Table(*HEADINGS)
    with scratch() as folder:
        for row in asyncio.run(rows(folder, given.seconds)):
            table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
