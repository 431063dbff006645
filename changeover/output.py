"""How commands speak: JSON lines for machines, aligned text for people, colour only on a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from shadow import json
from shadow.json import Json


def emit_json(value: Json) -> None:
    """Print one value as one line of JSON."""
    sys.stdout.write(json.encode(value).decode() + "\n")
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print one line for people."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(rows: Sequence[Mapping[str, Json]], columns: Iterable[str]) -> None:
    """Print rows aligned under their column names."""
    names = list(columns)
    cells = [[brief(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(cell[i]) for cell in cells), 0) for i, name in enumerate(names)]
    lines = [names, *cells]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        say(bold(text) if number == 0 else text)


def brief(value: Json) -> str:
    """Return a value as the cell of a table."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    return json.encode(value).decode()


def bold(text: str) -> str:
    """Return `text` in bold where standard output is a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def show_progress(verb: str) -> Callable[[int, int], None]:
    """Return a listener that shows (done, all) on standard error, where that is a terminal."""

    def show(done: int, everything: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{verb} {done} of {everything}" + ("\n" if done >= everything else ""))
            sys.stderr.flush()

    return show


def progress_line(text: str) -> None:
    """Show how far something has come, over what was shown before, where standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()


def instant(milliseconds: int) -> str:
    """Return a time in ISO 8601, UTC, with milliseconds."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class BestEffort(io.TextIOBase):
    """A text stream that drops what cannot be written, so that who speaks into it never fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if that is possible."""
        with suppress(OSError, ValueError):
            self._stream.flush()
