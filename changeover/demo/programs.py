"""The programs of the demo: started, listened to line by line, and stopped by their process ids."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from changeover.errors import UserError
from shadow import json
from shadow.json import Json

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = os.environ | {
    "CHANGEOVER_KEYS": f"demo:{base64.b64encode(os.urandom(32)).decode()}",
    "NODE_NO_WARNINGS": "1",
}
"""What the demo's programs are told; the keys are thrown away with the log that they seal."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program that prints lines of JSON."""

    name: str
    process: Process

    async def line(self) -> Json:
        """Return the next line; raises `UserError` when the program has ended."""
        assert self.process.stdout is not None
        text = await self.process.stdout.readline()
        if not text:
            raise UserError(f"the demo's {self.name} ended unexpectedly; its own words are above")
        return json.decode(text)

    async def until(self, wanted: Callable[[Json], bool]) -> Json:
        """Return the first line from here on that is `wanted`."""
        while True:
            line = await self.line()
            if wanted(line):
                return line

    def tell(self, text: str) -> None:
        """Write one line to the program."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")


@asynccontextmanager
async def program(name: str, *command: str, log: Path | None = None) -> AsyncIterator[Program]:
    """Run a command for the length of a block; what it writes to standard error goes to `log`, if there is one."""
    with (log or Path(os.devnull)).open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors if log else None,
            cwd=ROOT,
            env=ENVIRONMENT,
            limit=2**22,
        )
    try:
        yield Program(name, process)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def finished(*command: str) -> tuple[int, str]:
    """Run a `changeover` command to its end; returns its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "changeover", *command, stdin=DEVNULL, stdout=PIPE, cwd=ROOT, env=ENVIRONMENT
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    return process.returncode or 0, output.decode()


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the demo has running."""

    legacy: str
    proxy: str
    admin: str
    database: str


@dataclass(frozen=True, slots=True)
class Clients:
    """The two clients, each at its user's day as soon as it runs."""

    gui: Program
    tui: Program


@asynccontextmanager
async def clients(running: Stage) -> AsyncIterator[Clients]:
    """Start both clients, which know of nothing but the proxy."""
    node = str(ROOT / "scripts" / "with-node")
    api = f"{running.proxy}/trpc"
    async with (
        program("gui", node, "node", f"{EXAMPLES}/clients/gui.mjs", "--api", api) as gui,
        program("tui", node, "node", f"{EXAMPLES}/clients/tui.mjs", "--api", api) as tui,
    ):
        yield Clients(gui, tui)


@asynccontextmanager
async def stage(data: Path) -> AsyncIterator[Stage]:
    """Start the legacy and the proxy before it."""
    node = str(ROOT / "scripts" / "with-node")
    database = f"sqlite:///{data / 'changeover.db'}"
    async with AsyncExitStack() as stack:
        started = program("legacy", node, "node", f"{EXAMPLES}/legacy/src/main.js", "--data", str(data / "legacy"))
        legacy = (await (await stack.enter_async_context(started)).line())["port"]
        address = f"http://127.0.0.1:{legacy}"
        command = [sys.executable, "-m", "changeover", "serve", "--legacy", address, "--database", database]
        command += ["--contract", f"{EXAMPLES}/contract.toml", "--port", "0", "--admin-port", "0"]
        command += ["--initial-stage", "dualwrite"]
        ready = await (await stack.enter_async_context(program("proxy", *command, log=data / "proxy.log"))).line()
        yield Stage(address, ready["url"], ready["admin"], database)
