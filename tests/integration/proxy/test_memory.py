"""Bodies of any size pass through a proxy that stays small. TRANSFER_MIB sets the size; 1024 is the promise."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.scripted import Script, Visit, scripted

SIZE = int(os.environ.get("TRANSFER_MIB", "256")) << 20
PIECE = bytes(range(256)) * 1024
LIMIT = 150_000_000

pytestmark = pytest.mark.soak


class Proxy:
    """A proxy in its own process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self._process = process

    async def most_memory(self) -> int:
        """Stop it; returns the most resident memory that it ever had, in bytes."""
        out, _ = await self._process.communicate(b"")
        return int(out)


@asynccontextmanager
async def proxy_before(script: Script) -> AsyncIterator[Proxy]:
    async with scripted(script) as legacy:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.support.pass_through",
            legacy.url,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            yield Proxy(process, int(await process.stdout.readline()))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def count(reader: asyncio.StreamReader, size: int) -> None:
    """Read exactly `size` bytes and check that they are PIECE over and over."""
    left = size
    while left:
        piece = await reader.readexactly(min(left, len(PIECE)))
        assert piece == PIECE[: len(piece)]
        left -= len(piece)


async def test_a_large_download_passes_whole_and_in_little_memory() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        for _ in range(SIZE // len(PIECE)):
            await visit.say(PIECE)

    async with proxy_before(script) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await count(reader, SIZE)
        writer.close()
        assert await proxy.most_memory() < LIMIT


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_upload_passes_whole_and_in_little_memory(chunked: bool) -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        if chunked:
            left = SIZE
            while length := int(await visit.reader.readline(), 16):
                left -= len((await visit.reader.readexactly(length + 2))[:-2])
            assert left == 0
        else:
            await count(visit.reader, SIZE)
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with proxy_before(script) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % SIZE
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        for _ in range(SIZE // len(PIECE)):
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        assert await proxy.most_memory() < LIMIT
