"""Measure everything, print one table, and keep it: `make bench`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import feed, growth, http, logs, memory, reconciling, starting
from bench.figures import HEADINGS, Row, cells
from bench.plan import Plan
from bench.processor import scratch
from bench.servers import PATH

PARTS: dict[str, Callable[[Plan], AsyncIterator[Row]]] = {
    "http": http.rows,
    "log": logs.rows,
    "feed": feed.rows,
    "memory": memory.rows,
    "reconcile": reconciling.rows,
    "start": starting.rows,
    "growth": growth.rows,
}

PREFACE = """# Measurements

The last full run of `make bench`. Ours and theirs are measured by turns, several rounds each; figures are medians with
the least and the most beside them. Of two figures of one round, the ratio is ours divided by theirs; the median of
these ratios is held against the target. What is measured runs on one processor; load and legacy run on the other.
What limits these figures, and what would move them, is in [docs/performance.md](../docs/performance.md).
"""


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is measured")
    parser.add_argument("--seconds", type=int, default=3, help="how long each load lasts")
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, where it is counted and not timed")
    parser.add_argument("--full", action="store_true", help="growth up to 1,000,000 entities and 5,000,000 events")
    parser.add_argument("--only", help=f"some of {', '.join(PARTS)}", default=",".join(PARTS))
    parser.add_argument("--json", type=Path, help="write the rows for machines")
    parser.add_argument("--results", type=Path, help="write the table, with the machine, as Markdown")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    _go_first()
    start = time.monotonic()
    with scratch() as folder:
        plan = Plan(given.rounds, given.seconds, given.scale, given.full, folder)
        rows = asyncio.run(_measured(plan, parts))
    _show(rows)
    if given.json:
        given.json.write_text(json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n")
    if given.results:
        given.results.write_text(_markdown(rows, plan, time.monotonic() - start))


def _go_first() -> None:
    """Let other work on the machine wait, where that may be asked for; both sides of a comparison gain alike."""
    with contextlib.suppress(OSError):
        os.nice(-10)


async def _measured(plan: Plan, parts: list[str]) -> list[Row]:
    found: list[Row] = []
    for name in parts:
        before = time.monotonic()
        async for row in PARTS[name](plan):
            found.append(row)
            print("  ".join(cells(row)), file=sys.stderr, flush=True)
        print(f"-- {name}: {time.monotonic() - before:.0f} s", file=sys.stderr, flush=True)
    return found


def _show(rows: list[Row]) -> None:
    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*cells(row), style=None if row.met else "yellow" if row.skipped else "red")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _markdown(rows: list[Row], plan: Plan, seconds: float) -> str:
    lines = [PREFACE, f"{_machine()}", ""]
    lines += [f"{plan.rounds} rounds of {plan.seconds} s; {seconds:.0f} s in all.", ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _machine() -> str:
    """Describe the machine and what ran on it."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in _text("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _text("/proc/meminfo").splitlines() if "MemTotal" in line), 0)
    system = next(
        (line.partition("=")[2].strip('"') for line in _text("/etc/os-release").splitlines() if "PRETTY_NAME" in line),
        platform.system(),
    )
    facts = [
        f"{os.cpu_count()} × {processor}, {memory / 1e6:.0f} GB memory",
        f"{system}, Linux {platform.release()}",
        f"Python {platform.python_version()} {_build()}, SQLite {sqlite3.sqlite_version}",
        _version("nginx", "-v"),
        f"load average {', '.join(f'{each:.1f}' for each in os.getloadavg())} at the end",
    ]
    return "Machine: " + "; ".join(fact for fact in facts if fact) + "."


def _build() -> str:
    """Tell how the interpreter was built: one with profile-guided optimisation is faster by an eighth and more."""
    if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
        return "(optimised build)"
    return "(the distribution's build)" if sys.base_prefix == "/usr" else "(built without --enable-optimizations)"


def _version(program: str, option: str) -> str:
    found = shutil.which(program, path=PATH)
    if found is None:
        return ""
    said = subprocess.run([found, option], capture_output=True, text=True, check=False)
    return (said.stdout + said.stderr).partition("version: ")[2].strip().replace("/", " ")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
