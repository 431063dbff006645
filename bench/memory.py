"""What the proxy's process holds in memory: for readers that wait, and while a large body goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench import figures
from bench.figures import Row
from bench.plan import SERVER_CPU, Plan
from bench.servers import Running, changeover

READERS = 1_000
GIBIBYTE = 1 << 30
PIECE = bytes(1 << 18)
SMALL = b'{"result":{"data":{"sessions":[]}}}'


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    size = int(GIBIBYTE * plan.scale)
    async with plain_legacy() as legacy:
        async with changeover(legacy, plan.folder / "readers", cpu=SERVER_CPU) as running:
            each = await _of_readers(running) / READERS / 1024
        yield Row(f"memory of an idle SSE reader (of {READERS:,})", "KB", figures.own("KB", at_most=40), (each,))
        async with changeover(legacy, plan.folder / "large", cpu=SERVER_CPU) as running:
            await _upload(running.port, size)
            await _download(running.port, size)
            most = running.memory("VmHWM") / 1e6
        name = f"memory, {size / GIBIBYTE:g} GiB up and down"
        yield Row(name, "MB", figures.own("MB", at_most=150), (most,))


async def _of_readers(running: Running) -> float:
    """Return how many bytes the process grew by while it got its readers; some come before, to warm it."""
    opened = [await _reader(running.port) for _ in range(50)]
    before = running.memory("VmRSS")
    opened += [await _reader(running.port) for _ in range(READERS)]
    grown = running.memory("VmRSS") - before
    for _, writer in opened:
        writer.close()
    return grown


async def _reader(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /_changeover/events?channel=session:* HTTP/1.1\r\nHost: bench\r\n\r\n")
    await reader.readuntil(b"\n\n")
    return reader, writer


async def _download(port: int, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(b"GET /large/%d HTTP/1.1\r\nHost: bench\r\n\r\n" % size)
    await reader.readuntil(b"\r\n\r\n")
    while size > 0:
        got = len(await reader.read(1 << 20))
        if not got:
            raise RuntimeError(f"the download broke off with {size} bytes to come")
        size -= got
    writer.close()


async def _upload(port: int, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /large HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % size)
    while size > 0:
        writer.write(PIECE[:size])
        size -= len(PIECE)
        await writer.drain()
    if not (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200"):
        raise RuntimeError("the upload was refused")
    writer.close()


@asynccontextmanager
async def plain_legacy() -> AsyncIterator[int]:
    """Run a legacy in this process that takes any body and answers it, or as many bytes as a path names."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, limit=1 << 20)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            line, *fields = head.decode("latin-1").lower().split("\r\n")
            left = sum(int(field.split(":")[1]) for field in fields if field.startswith("content-length:"))
            while left > 0:
                left -= len(await reader.read(min(left, 1 << 20)))
            path = line.split()[1]
            size = int(path.rpartition("/")[2]) if path.startswith("/large/") else len(SMALL)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size)
            if size == len(SMALL):
                writer.write(SMALL)
            else:
                for start in range(0, size, len(PIECE)):
                    writer.write(PIECE[: size - start])
                    await writer.drain()
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()
