"""Ids that nobody can guess; those of events sort by time, so that the log's index of them grows at its end."""

from __future__ import annotations

import os
import threading
from typing import Final

_POOL: Final = 4096
"""Random bytes that are asked for at once: each question to the kernel lets another thread have the interpreter."""


class _Randomness(threading.local):
    """Bytes from the kernel, each given out once."""

    def __init__(self) -> None:
        self._bytes = b""
        self._place = 0

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start, end = self._place, self._place + count
        if end > len(self._bytes):
            self._bytes = os.urandom(_POOL)
            start, end = 0, count
        self._place = end
        return self._bytes[start:end]

    def forget(self) -> None:
        """Give out nothing more of what was asked for: another process has it too."""
        self._bytes = b""
        self._place = 0


_randomness = _Randomness()
os.register_at_fork(after_in_child=_randomness.forget)


def new_id(time: int) -> str:
    """Return a fresh id for something that happened at `time`: a version 7 UUID, 74 bits of it random."""
    return uuid7(time, _randomness.take(10))


def new_name() -> str:
    """Return 128 random bits in hex, for what needs no order."""
    return _randomness.take(16).hex()


def uuid7(time: int, randomness: bytes) -> str:
    """Return the version 7 UUID of `time` and ten random bytes."""
    head = (time & 0xFFFFFFFFFFFF).to_bytes(6)
    version = 0x70 | (randomness[0] & 0x0F)
    variant = 0x80 | (randomness[2] & 0x3F)
    text = (head + bytes((version, randomness[1], variant)) + randomness[3:10]).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
