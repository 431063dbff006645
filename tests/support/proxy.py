"""A real proxy process, as an operator would start it, on free ports."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.node import ROOT, stop

KEYS = "test:" + base64.b64encode(b"only for tests, never for real!!").decode()
CONTRACT = ROOT / "examples" / "contract.toml"


class ProxyFailed(AssertionError):
    """The proxy ended before it was ready; the message holds what it wrote to stderr."""


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running `changeover serve`; `url` has no path."""

    url: str
    admin: str
    pid: int
    database: str
    process: subprocess.Popen[bytes]
    log_file: Path

    def stderr(self) -> str:
        """What the proxy logged."""
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        stop(self.process, with_signal=signal.SIGKILL)

    async def terminated(self) -> int:
        """Ask the proxy to stop and wait until it has; returns its exit status."""
        return await asyncio.to_thread(stop, self.process, grace=60)


def start_proxy(
    legacy: str,
    data: Path,
    *flags: str,
    contract: Path = CONTRACT,
    database: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ProxyProcess:
    """Start a proxy whose log is in the directory `data`, every phase at dualwrite. Who starts it must end it."""
    data.mkdir(parents=True, exist_ok=True)
    database = database or f"sqlite:///{data / 'log.db'}"
    log_file = data / "proxy.log"
    arguments = ["--legacy", legacy, "--contract", str(contract), "--database", database, "--port", "0"]
    arguments += ["--admin-port", "0", "--initial-stage", "dualwrite", *flags]
    with log_file.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "changeover", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env=os.environ | {"CHANGEOVER_KEYS": KEYS} | dict(environment or {}),
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        raise ProxyFailed(f"status {process.wait()}:\n{log_file.read_text(errors='replace')}")
    ready = json.loads(line)
    return ProxyProcess(ready["url"], ready["admin"], ready["pid"], database, process, log_file)


@asynccontextmanager
async def running_proxy(legacy: str, data: Path, *flags: str, **options: str) -> AsyncIterator[ProxyProcess]:
    """A running proxy for the length of a block; stopped as an operator would stop it."""
    proxy = await asyncio.to_thread(lambda: start_proxy(legacy, data, *flags, database=options.get("database")))
    try:
        yield proxy
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)


def changeover(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as from a shell."""
    return subprocess.run(
        [sys.executable, "-m", "changeover", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
        env=os.environ | {"CHANGEOVER_KEYS": KEYS} | dict(environment or {}),
    )
