"""A local file that takes down what is forwarded while the log cannot be written, until the log has it.

It is append-only text: a line for every call before it is forwarded (`tried`), one for what became of it (`ended`),
and one for every call that has reached the log (`shipped`). A line is its CRC-32, a space, and JSON; every append
returns only after fsync. The last line may be torn by a crash: then its write was never confirmed, and it is cut off.
What stands inside is sealed by whoever writes it.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shadow import json
from shadow.errors import Mendable
from shadow.json import Json

Record = dict[str, Json]


class SpoolBroken(Mendable):
    """The spool holds something that was never written by us; nothing was taken from it."""


class SpoolFull(Exception):
    """The spool cannot be written either."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A call in the spool; `ended` is None when the proxy died before it was known what became of it."""

    number: int
    tried: Record
    ended: Record | None


class Spool:
    """One spool file; it exists only while something is in it. Safe in any thread."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier process left; raises SpoolBroken."""
        self.path = path
        self._lock = threading.Lock()
        self._file: int | None = None
        self._waiting: dict[int, Spooled] = {}
        self._order: list[int] = []
        self._next = 1
        self.name = ""
        """A random name given at the file's birth; with a number it names a call for ever."""
        if path.exists():
            self._reopen()

    def __len__(self) -> int:
        """Return how many calls wait for the log."""
        return len(self._waiting)

    def __contains__(self, number: int) -> bool:
        """Tell whether a call waits for the log."""
        return number in self._waiting

    def last_ended(self) -> int | None:
        """Return the call that ended last of those that wait for the log; they are shipped in the order of their ends.

        None when no call that has ended waits.
        """
        with self._lock:
            return next((number for number in reversed(self._order) if number in self._waiting), None)

    def waiting(self) -> list[Spooled]:
        """Return what waits for the log, in the order in which the calls ended; those that never did come last."""
        with self._lock:
            ended = [self._waiting[number] for number in self._order if number in self._waiting]
            return ended + [each for each in self._waiting.values() if each.ended is None]

    def tried(self, records: Iterable[Record]) -> list[int]:
        """Write calls that are about to be forwarded, durable on return; raises SpoolFull."""
        with self._lock:
            numbered = list(enumerate(records, self._next))
            self._append({"kind": "tried", "number": number, **record} for number, record in numbered)
            self._next += len(numbered)
            for number, record in numbered:
                self._waiting[number] = Spooled(number, record, None)
            return [number for number, _ in numbered]

    def ended(self, ends: Iterable[tuple[int, Record]]) -> None:
        """Write what became of calls, durable on return; raises SpoolFull."""
        with self._lock:
            known = list(ends)
            self._append({"kind": "ended", "number": number, **record} for number, record in known)
            for number, record in known:
                self._end(number, record)

    def shipped(self, number: int) -> None:
        """Note that the log has a call; the file goes when nothing waits any more. Raises SpoolFull."""
        with self._lock:
            if len(self._waiting) > 1 or number not in self._waiting:
                self._append([{"kind": "shipped", "number": number}])
                self._waiting.pop(number, None)
                return
            self._close()
            self.path.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
            self._waiting.clear()
            self._order.clear()

    def close(self) -> None:
        """Let the file go; what is in it stays."""
        with self._lock:
            self._close()

    def _end(self, number: int, record: Record) -> None:
        there = self._waiting[number]
        self._waiting[number] = Spooled(number, there.tried, record)
        self._order.append(number)

    def _append(self, records: Iterable[Record]) -> None:
        lines = b"".join(_line(record) for record in records)
        try:
            file = self._open()
            before = os.fstat(file).st_size
            try:
                _write_whole(file, lines)
                os.fsync(file)
            except OSError:
                os.ftruncate(file, before)  # half a line must not stand before the next one
                raise
        except OSError as error:
            raise SpoolFull(f"{self.path} cannot be written: {error.strerror}") from error

    def _open(self) -> int:
        if self._file is not None:
            return self._file
        self.name = os.urandom(8).hex()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write_whole(file, _line({"kind": "spool", "name": self.name}))
            os.fsync(file)
            _sync_folder(self.path.parent)
        except OSError:
            os.close(file)
            self.path.unlink(missing_ok=True)
            raise
        self._file = file
        return file

    def _reopen(self) -> None:
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        for number, line in enumerate(text[:whole].splitlines(), start=1):
            self._take(_record(line, f"{self.path}, line {number}"))
        if not self.name:
            self.path.unlink()  # torn at its birth: nothing was ever confirmed
            return
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._file, whole)

    def _take(self, record: Record) -> None:
        kind, number = record.pop("kind"), record.pop("number", 0)
        match kind:
            case "spool":
                self.name = record["name"]
            case "tried":
                self._waiting[number] = Spooled(number, record, None)
                self._next = number + 1
            case "ended":
                self._end(number, record)
            case "shipped":
                self._waiting.pop(number, None)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(record: Record) -> bytes:
    body = json.encode(record)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _record(line: bytes, place: str) -> Record:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise SpoolBroken(f"{place} is damaged: move the file aside, and reconcile the phases that fail open")
    record: Record = json.decode(body)
    return record


def _write_whole(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
