"""The two client programs of the demo, run as their users would run them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shadow.json import Json
from tests.support.node import ROOT, start_node, stop

PROGRAMS = ROOT / "examples" / "clients"


@dataclass(slots=True)
class ClientProgram:
    """A running client; `heard` holds every line that it has said and that was read so far."""

    process: subprocess.Popen[bytes]
    heard: list[Json] = field(default_factory=list)

    async def hears(self, kind: str) -> Json:
        """Read on until it says a line of that kind; raises AssertionError when it fails or ends first."""
        while True:
            line = await asyncio.to_thread(self._line)
            if line["kind"] == "failed":
                raise AssertionError(f"{line['client']}: {line['what']}: {line['error']}")
            if line["kind"] == kind:
                return line

    async def asked(self, question: Literal["sessions", "read"]) -> Json:
        """Return its live list, or the list as the API has it now."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n".encode())
        self.process.stdin.flush()
        return (await self.hears(question))["sessions"]

    async def sees(self, type: str) -> Json:  # noqa: A002 - the event's own word
        """Read on until it saw an event of that type; returns the line, with the list after it."""
        while (line := await self.hears("saw"))["type"] != type:
            pass
        return line

    def _line(self) -> Json:
        assert self.process.stdout is not None
        raw = self.process.stdout.readline()
        if not raw:
            raise AssertionError(f"the client ended after {self.heard[-3:]}")
        self.heard.append(json.loads(raw))
        return self.heard[-1]


@asynccontextmanager
async def running_client(
    name: Literal["gui", "tui"], api: str, directory: Path, *flags: str
) -> AsyncIterator[ClientProgram]:
    """Start a client against the API at `api`; its stderr goes to a file in `directory`."""
    script = PROGRAMS / f"{name}.mjs"
    process = start_node(script, "--api", api, *flags, stderr=directory / f"{name}.log", stdin=True)
    try:
        yield ClientProgram(process)
    finally:
        await asyncio.to_thread(stop, process)
