"""The least that a forwarder in Python can cost: one that reads nothing of what it forwards (`python -m bench.floor`).

It takes whatever bytes come from a client, writes them to a connection of that client's own to the legacy, and what
comes back the other way: no parsing, no pool, no head of its own, nothing that could be refused. What it costs on an
interpreter and a loop is what no proxy there can undercut.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from asyncio.subprocess import PIPE
from typing import cast

import uvloop

from bench.load import available, pinned
from bench.plan import OTHERS_CPU, SERVER_CPU
from bench.processor import measured, scratch
from bench.servers import FAST_LEGACY, ROOT, nginx, nginx_available, stopped


class Pipe(asyncio.Protocol):
    """One end; what arrives here leaves at the other."""

    def __init__(self) -> None:
        self.other: Pipe | None = None
        self.early: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end too."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def forward(legacy: int) -> None:
    """Forward for ever; prints the port."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def joined(client: Pipe) -> None:
        _, server = await loop.create_connection(Pipe, "127.0.0.1", legacy)
        client.other, server.other = server, client
        for data in client.early:
            client.data_received(data)

    class Client(Pipe):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(joined(self))
            running.add(task)
            task.add_done_callback(running.discard)

    server = await loop.create_server(Client, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def measure(seconds: int) -> None:
    """Run one and say what an answer through it costs."""
    with scratch() as folder:
        async with nginx(FAST_LEGACY, folder / "legacy", cpu=OTHERS_CPU) as legacy:
            command = [*pinned(SERVER_CPU), sys.executable, "-m", "bench.floor", "--forward", str(legacy)]
            process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT)
            try:
                assert process.stdout is not None
                port = int(await process.stdout.readline())
                rate, parts = await measured(port, process.pid, mode="query", connections=32, seconds=seconds)
            finally:
                await stopped(process)
    for part in parts:
        print(f"{rate:,.0f} answers/s, {part.user:.1f} µs user and {part.kernel:.1f} µs kernel for each")


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="bench.floor", description=__doc__)
    parser.add_argument("--seconds", type=int, default=5, help="how long the load lasts")
    parser.add_argument("--forward", type=int, metavar="PORT", help="only forward, to this port")
    given = parser.parse_args()
    if given.forward:
        uvloop.run(forward(given.forward))
    elif not (available() and nginx_available()):
        print("not measured: nginx and wrk are not installed")
    else:
        asyncio.run(measure(given.seconds))


if __name__ == "__main__":
    main()
