"""Event ids that sort by time, so that the log's index of ids grows at its end and stays cheap."""

from __future__ import annotations

import os


def new_id(time: int) -> str:
    """Return a fresh id for something that happened at `time`: a version 7 UUID, 74 bits of it random."""
    return uuid7(time, os.urandom(10))


def uuid7(time: int, randomness: bytes) -> str:
    """Return the version 7 UUID of `time` and ten random bytes."""
    head = (time & 0xFFFFFFFFFFFF).to_bytes(6)
    version = 0x70 | (randomness[0] & 0x0F)
    variant = 0x80 | (randomness[2] & 0x3F)
    text = (head + bytes((version, randomness[1], variant)) + randomness[3:10]).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
