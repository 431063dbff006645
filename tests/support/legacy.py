"""The example legacy as tests use it: the real server, on its own port, with its own database and settings."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from shadow.json import Json
from tests.support.node import ROOT, first_line, start_node, stop

MAIN = ROOT / "examples" / "legacy" / "src" / "main.js"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change that the legacy committed, in the order of its commits."""

    seq: int
    procedure: str
    entity: str
    key: str


@dataclass(frozen=True, slots=True)
class Legacy:
    """A running legacy; `url` includes the base path."""

    url: str
    port: int
    pid: int
    data: Path
    process: subprocess.Popen[bytes]

    def audit(self) -> list[AuditRow]:
        """Every change committed so far, read from the legacy's own audit table; works after its death too."""
        return audit_in(self.data)

    def settings(self) -> Json:
        """What the settings file holds, keys in clear; an empty object when nothing was saved yet."""
        path = self.data / "settings.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def stderr(self) -> str:
        """What the server wrote to stderr."""
        return (self.data / "stderr.log").read_text(errors="replace")

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        stop(self.process, with_signal=signal.SIGKILL)

    async def exited(self) -> int:
        """Wait until the process has ended by itself; returns its status, negative for a signal."""
        return await asyncio.to_thread(self.process.wait)


def audit_in(data: Path) -> list[AuditRow]:
    """Read the audit table of a legacy, running or not, by the directory of its data."""
    with closing(sqlite3.connect(f"file:{data / 'assistant.db'}?mode=ro", uri=True, timeout=10)) as database:
        rows = database.execute("SELECT seq, procedure, entity, key FROM audit ORDER BY seq").fetchall()
    return [AuditRow(*row) for row in rows]


def start_legacy(data: Path, *flags: str, port: int = 0) -> Legacy:
    """Start a legacy over the directory `data` and wait until it listens. Who starts it must end it."""
    data.mkdir(parents=True, exist_ok=True)
    stderr = data / "stderr.log"
    process = start_node(MAIN, "--data", str(data), "--port", str(port), *flags, stderr=stderr)
    try:
        ready = json.loads(first_line(process, stderr))
    except BaseException:
        stop(process, with_signal=signal.SIGKILL)
        raise
    return Legacy(ready["url"], ready["port"], ready["pid"], data, process)


@contextmanager
def legacy_process(data: Path, *flags: str, port: int = 0) -> Iterator[Legacy]:
    """A running legacy for fixtures of a wider scope than one event loop."""
    legacy = start_legacy(data, *flags, port=port)
    try:
        yield legacy
    finally:
        stop(legacy.process)


@asynccontextmanager
async def running_legacy(data: Path, *flags: str, port: int = 0) -> AsyncIterator[Legacy]:
    """A running legacy; give the port of one that was killed to bring it back at the same address."""
    legacy = await asyncio.to_thread(start_legacy, data, *flags, port=port)
    try:
        yield legacy
    finally:
        await asyncio.to_thread(stop, legacy.process)
