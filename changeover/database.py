"""Reading the log beside the process that writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shadow.events import Event
from shadow.log import Log
from shadow.reader import Reader


@contextmanager
def reading(url: str) -> Iterator[Reader]:
    """Open the log at a database URL for reading, for the length of a block."""
    reader = Log.read_only(url)
    try:
        yield reader
    finally:
        reader.release()


def newest(log: Reader, patterns: Sequence[str], count: int) -> list[Event]:
    """Return the last `count` events of the patterns, oldest first."""
    head = log.head.position
    window = max(count, 1)
    while True:
        after = max(0, head - window)
        found = log.read(patterns, after=after, limit=window)
        if len(found) >= count or after == 0:
            return found[-count:] if count else []
        window *= 4
