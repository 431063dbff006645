"""A legacy that says exactly the bytes a test wants it to, and remembers exactly the bytes it was sent."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proxy.forward import TOLD, Forwarding, Receive, Refuse, Scope, Send, forward, plain_refusal
from proxy.roads.express import Express
from proxy.server import Server, bind, serving
from proxy.upstream import NotSent, Upstream


class Visit:
    """One connection that the proxy made."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        """0 for the first connection."""
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one request whose body is told by Content-Length or chunked; returns its bytes, b"" at the end."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return head + await self.reader.readuntil(b"0\r\n\r\n")
        if b"content-length: " in lower:
            length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
            return head + await self.reader.readexactly(length)
        return head

    async def say(self, data: bytes) -> None:
        """Write and wait until the kernel has it."""
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off with a reset."""
        # Without lingering a close is a reset, whatever was read before.
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Visit], Awaitable[None]]


@dataclass(slots=True)
class Scripted:
    """The running server."""

    url: str
    visits: list[Visit] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def scripted(
    script: Script, *, unix: Path | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Scripted]:
    """Run `script` for each connection; the connection closes when it returns. Errors in it fail the test."""
    state = Scripted("")
    tasks: set[asyncio.Task[None]] = set()

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        visit = Visit(len(state.visits), reader, writer)
        state.visits.append(visit)
        try:
            await script(visit)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        except BaseException as error:  # noqa: BLE001 # told to the test
            state.errors.append(error)
        finally:
            writer.close()
            tasks.discard(task)

    limit = 1 << 20
    if unix is not None:
        server: asyncio.Server = await asyncio.start_unix_server(visited, unix, limit=limit)
        state.url = f"unix://{unix}"
    else:
        server = await asyncio.start_server(visited, "127.0.0.1", 0, limit=limit, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        state.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if state.errors:
        raise state.errors[0]


class All:
    """A collection that has everything."""

    def __contains__(self, thing: object) -> bool:
        return True


TAKEN: list[Upstream] = []
"""One entry for each request that an express road took."""

EXPRESS = False
"""Whether `proxied` has the express road, and a connection to the legacy that waits for it."""


@asynccontextmanager
async def proxied(
    upstream: Upstream, *, forwarding: Forwarding = TOLD, refuse: Refuse = plain_refusal
) -> AsyncIterator[Server]:
    """Serve a proxy that only passes through, on a free port."""
    taken = partial(TAKEN.append, upstream)
    express = Express(upstream, forwarding, refuse, All(), lambda path: EXPRESS, taken)
    async with serving(PassThrough(upstream, forwarding, refuse, express), bind("127.0.0.1", 0), grace=1) as server:
        if EXPRESS:
            with suppress(NotSent):
                upstream.release(await upstream._connect())
        yield server
    await upstream.close()


@dataclass(frozen=True)
class PassThrough:
    """An application that only passes through."""

    upstream: Upstream
    forwarding: Forwarding
    refuse: Refuse
    shortcut: Express

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request through."""
        await forward(scope, receive, send, self.upstream, forwarding=self.forwarding, refuse=self.refuse)


async def until(condition: Callable[[], object]) -> None:
    """Let everything else run until the condition holds; ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition has no event of its own
            await asyncio.sleep(0)


async def converse(port: int, data: bytes, *, until: bytes | None = None) -> bytes:
    """Send bytes to a port and return what comes back until it ends, or until `until` is in it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        if until is not None:
            return await reader.readuntil(until)
        return await reader.read()
    finally:
        writer.close()
