"""Load on a port, by wrk: how many answers a second, and how long the middle and the slow ones took."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk measured in one run; latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    failed: int


def available() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


async def load(
    url: str, *, connections: int, seconds: float, mode: str, cpu: Sequence[int] = (), sessions: int = 10_000
) -> Load:
    """Load `url` for some seconds; `mode` is what `load.lua` sends, `query` or `rename`, about some of `sessions`."""
    with tempfile.NamedTemporaryFile(suffix=".json") as figures:
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "-s",
            str(SCRIPT),
            url,
            "--",
            mode,
            str(sessions),
        ]
        await _run([*pinned(cpu), *command], BENCH_FIGURES=figures.name)
        found = json.loads(Path(figures.name).read_text())
    return Load(found["rate"], found["p50"] / 1000, found["p99"] / 1000, found["failed"])


def pinned(cpu: Sequence[int]) -> list[str]:
    """Return the words that keep a command on some processors, where the machine can do that."""
    return ["taskset", "-c", ",".join(map(str, cpu))] if cpu and shutil.which("taskset") else []


async def _run(command: Sequence[str], **environment: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=os.environ | environment
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{output.decode()}")
