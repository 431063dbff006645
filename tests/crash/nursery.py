"""Starts real proxy processes fast: everything is imported once, and each proxy is a fork that runs the command.

A proxy that was forked is a process like any other: it opens its own files, runs `changeover serve` to its end and
dies by SIGKILL as one does. Only the second that Python needs to import everything is saved.

`python -m tests.crash.nursery` reads orders from its standard input, one JSON line each, and says on its standard
output what was born and who ended; the proxies' own ready lines go there too.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.node import ROOT
from tests.support.proxy import CONTRACT, KEYS


class StillBorn(AssertionError):
    """A proxy ended before it was ready; the message holds what it wrote to stderr."""


@dataclass(slots=True)
class Child:
    """One proxy process."""

    pid: int
    errors: Path
    ready: asyncio.Future[dict[str, Any]]
    ended: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Its wait status, once it has ended."""

    def said(self) -> str:
        """What it wrote to its standard error last."""
        return self.errors.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it at once, as a power cut would; nothing happens when it has ended."""
        with suppress(ProcessLookupError):  # its end may not have been told yet
            if not self.ended.done():
                os.kill(self.pid, signal.SIGKILL)

    def limit_files(self, size: int) -> None:
        """Let no file grow beyond `size` bytes; nothing happens when it has ended."""
        with suppress(ProcessLookupError):  # its end may not have been told yet
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @property
    def was_killed(self) -> bool:
        """Tell whether it ended by SIGKILL."""
        return os.WIFSIGNALED(self.ended.result()) and os.WTERMSIG(self.ended.result()) == signal.SIGKILL


class Nursery:
    """The running nursery, from the outside."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._births: list[tuple[asyncio.Future[Child], Path]] = []
        self._children: dict[int, Child] = {}

    async def start(self, arguments: Sequence[str], errors: Path, *, fault: str = "") -> Child:
        """Start `changeover` with `arguments` and wait until it is ready; raises `StillBorn` or is killed before."""
        assert self._process.stdin is not None
        birth: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._births.append((birth, errors))
        order = {"arguments": list(arguments), "errors": str(errors), "fault": fault}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        child = await birth
        either: list[asyncio.Future[Any]] = [child.ready, child.ended]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            child.kill()
            raise
        if not child.ready.done() and not child.was_killed:
            raise StillBorn(f"status {child.ended.result()}:\n{child.said()}")
        return child

    def kill(self) -> None:
        """End the nursery itself; its proxies live on, and it can tell of nobody's end any more."""
        self._process.kill()

    async def listen(self) -> None:
        """Take in what the nursery says until it ends."""
        assert self._process.stdout is not None
        loop = asyncio.get_running_loop()
        async for line in self._process.stdout:
            said = json.loads(line)
            if "born" in said:
                birth, errors = self._births.pop(0)
                self._children[said["born"]] = child = Child(said["born"], errors, loop.create_future())
                if birth.cancelled():
                    child.kill()  # nobody wants it any more
                else:
                    birth.set_result(child)
            elif "ready" in said:
                self._children[said["pid"]].ready.set_result(said)
            else:
                self._children.pop(said["ended"]).ended.set_result(said["status"])
        if self._births or self._children:
            raise StillBorn(f"the nursery ended, and left {[*self._children]} behind")


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """A nursery for the length of a block; every proxy that is still there at its end is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crash.nursery",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | {"CHANGEOVER_KEYS": KEYS},
    )
    assert process.stdin is not None
    running = Nursery(process)
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(running.listen())
        try:
            yield running
        finally:
            process.stdin.close()
            await process.wait()
            await asyncio.wait([listening])


def _main() -> None:
    """Fork a proxy for each order; kill all of them when the orders end."""
    # What a proxy imports, at once or when it is asked for something, costs a second; so do its first expressions.
    from alembic.runtime import migration  # noqa: F401
    from typer import _adapters  # noqa: F401

    from changeover import cli, serve  # noqa: F401
    from shadow.contract import load

    load(CONTRACT)

    children: set[int] = set()

    def reap(*_: object, how: int = os.WNOHANG) -> None:
        # A signal may interrupt its own handler, so each end is asked for only once: by whoever is told of it.
        with suppress(ChildProcessError, BrokenPipeError):  # none is left, or nobody listens any more
            while True:
                pid, status = os.waitpid(-1, how)
                if not pid:
                    return
                children.discard(pid)
                _say({"ended": pid, "status": status})

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        order = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            _be_a_proxy(order)
        children.add(pid)
        _say({"born": pid})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    reap(how=0)


def _be_a_proxy(order: dict[str, Any]) -> None:
    from changeover import cli
    from shadow import faults

    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(errors, 2)
        os.close(errors)
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        faults.arm(order["fault"])
        sys.argv = ["changeover", *order["arguments"]]
        cli.main()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:  # noqa: BLE001 - a fork must never return into the nursery
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)


def _say(what: dict[str, Any]) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    _main()
