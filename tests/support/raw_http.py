"""HTTP/1.1 as bytes: requests that no client library would send, and answers before anything has tidied them up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools

HeaderPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request; `target` goes out as it is. `chunks` sends the body chunked, in exactly these pieces."""

    method: str
    target: bytes
    headers: HeaderPairs = ()
    body: bytes | None = None
    chunks: tuple[bytes, ...] | None = None

    def encode(self, host: str) -> bytes:
        """The bytes on the wire. Host comes first; the connection closes after the answer."""
        pairs: list[tuple[str, str]] = [("host", host), *self.headers, ("connection", "close")]
        body = self.body or b""
        if self.chunks is not None:
            pairs.append(("transfer-encoding", "chunked"))
            body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*self.chunks, b""))
        elif self.body is not None:
            pairs.append(("content-length", str(len(self.body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        return b"%s %s HTTP/1.1\r\n%s\r\n" % (self.method.encode(), self.target, lines.encode("latin-1")) + body


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer after de-chunking; header names are lower-cased, everything else is as it came."""

    status: int
    reason: str
    headers: HeaderPairs
    body: bytes


class RawStream:
    """An answer while it comes in."""

    def __init__(self, reader: asyncio.StreamReader, method: str) -> None:
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        self._method = method
        self._reason = b""
        self._headers: list[tuple[str, str]] = []
        self._body = bytearray()
        self._complete = False

    @property
    def body(self) -> bytes:
        """What has come of the body by now."""
        return bytes(self._body)

    async def until(self, expected: bytes) -> None:
        """Read on until `expected` is in the body; raises `EOFError` when the answer ends without it."""
        while expected not in self._body:
            if self._complete or not await self._read():
                raise EOFError(f"the answer ended without {expected!r}: {bytes(self._body)!r}")

    async def whole(self) -> RawAnswer:
        """Read to the end of the answer; raises `EOFError` when the connection breaks off before it."""
        while not self._complete:
            if not await self._read():
                raise EOFError(f"the answer broke off after {bytes(self._body)!r}")
        return RawAnswer(
            self._parser.get_status_code(), self._reason.decode("latin-1"), tuple(self._headers), bytes(self._body)
        )

    async def _read(self) -> bool:
        data = await self._reader.read(65536)
        if data:
            self._parser.feed_data(data)
        return bool(data)

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._complete = self._method == "HEAD"

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._complete = True


@asynccontextmanager
async def opened(url: str, request: RawRequest) -> AsyncIterator[RawStream]:
    """Send the request to the server of `url` (whose path does not matter) and look at the answer as it comes."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(request.encode(address.netloc))
        await writer.drain()
        yield RawStream(reader, request.method)
    finally:
        writer.close()


async def exchange(url: str, request: RawRequest) -> RawAnswer:
    """Send one request and read its whole answer."""
    async with opened(url, request) as stream:
        return await stream.whole()
