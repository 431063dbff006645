"""Reading a body that passes: what it says while its bytes, perhaps compressed, stay as they are."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable

from proxy.framing import Pairs, header

Unpack = Callable[[bytes], bytes]
"""Takes the next bytes of a body and returns what they hold; raises `Undecodable`."""


class Undecodable(Exception):
    """The body is compressed in a way that cannot be read here, or it is broken."""


def unpacking(headers: Pairs) -> Unpack:
    """Return what reads a body with these headers piece by piece; raises `Undecodable` for an unknown encoding."""
    encoding = header(headers, b"content-encoding").strip().lower()
    if encoding in {b"", b"identity"}:
        return plainly
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        raise Undecodable(f"the encoding {encoding.decode('latin-1')} is not known here")
    inflater = zlib.decompressobj(wbits=47)

    def inflate(piece: bytes) -> bytes:
        try:
            return inflater.decompress(piece)
        except zlib.error as error:
            raise Undecodable("the body is not what its encoding says") from error

    return inflate


def plainly(piece: bytes) -> bytes:
    """Read a body that is not compressed."""
    return piece


def tolerant(unpack: Unpack) -> Unpack:
    """Return what reads like `unpack` as far as it goes, and nothing from there on; never raises."""
    if unpack is plainly:
        return unpack
    broken = False

    def read(piece: bytes) -> bytes:
        nonlocal broken
        try:
            return b"" if broken else unpack(piece)
        except Undecodable:
            broken = True
            return b""

    return read


class Held:
    """The pieces of a body that may not go on yet, measured by what they hold.

    A plain piece can be let go in parts; a compressed one goes as a whole, when all that it holds may go.
    """

    def __init__(self, unpack: Unpack) -> None:
        self.size = 0
        """How many bytes are held."""
        self._unpack = unpack
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._end = 0

    def take(self, piece: bytes) -> bytes:
        """Keep a piece and return what it holds; raises `Undecodable`, and keeps it all the same."""
        self.size += len(piece)
        self._pieces.append((piece, self._end))
        held = self._unpack(piece)
        self._end += len(held)
        self._pieces[-1] = (piece, self._end)
        return held

    def release(self, offset: int) -> bytes:
        """Let go of everything that holds nothing beyond `offset`."""
        gone: list[bytes] = []
        while self._pieces and self._pieces[0][1] <= offset:
            gone.append(self._pieces.popleft()[0])
        if self._pieces and self._unpack is plainly:
            piece, end = self._pieces[0]
            ready = offset - (end - len(piece))
            if ready > 0:
                gone.append(piece[:ready])
                self._pieces[0] = (piece[ready:], end)
        return self._gone(gone)

    def rest(self) -> bytes:
        """Let go of everything."""
        gone = [piece for piece, _ in self._pieces]
        self._pieces.clear()
        return self._gone(gone)

    def _gone(self, pieces: list[bytes]) -> bytes:
        together = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.size -= len(together)
        return together
