"""On which line each key of a TOML document stands: `tomllib` does not say, and a mistake needs a place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}\s#]+(?: \d\d:[^,\]}\s#]+)?")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_ESCAPES = re.compile(r'\\(["\\])')


def find_lines(text: str) -> Mapping[KeyPath, int]:
    """Return the line, counted from 1, of every table, key and array element in `text`, which must be valid TOML.

    For a key it is the line on which its value begins.
    """
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip(_SPACE) or self._at < len(self._text):
            if self._at >= len(self._text):
                break
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> KeyPath:
        line = self._line()
        double = self._text.startswith("[[", self._at)
        self._at += 2 if double else 1
        names = tuple(self._key())
        self._at += 2 if double else 1
        path = self._resolve(names[:-1]) + names[-1:]
        if double:
            index = self._arrays.get(path, -1) + 1
            self._arrays[path] = index
            self._lines.setdefault(path, line)
            path = (*path, index)
        self._note(path, line)
        return path

    def _resolve(self, names: tuple[str, ...]) -> KeyPath:
        """Follow names through arrays of tables: a name means the array's last element."""
        path: KeyPath = ()
        for name in names:
            path = (*path, name)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _pair(self, table: KeyPath) -> None:
        path = (*table, *self._key())
        self._skip(_BLANK)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._note(path, self._line())
        self._value(path)

    def _note(self, path: KeyPath, line: int) -> None:
        for length in range(1, len(path) + 1):
            self._lines.setdefault(path[:length], line)
        self._lines[path] = line

    def _key(self) -> Iterator[str]:
        while True:
            self._skip(_BLANK)
            yield self._string() if self._text[self._at] in "\"'" else self._take(_BARE)
            self._skip(_BLANK)
            if not self._peek("."):
                return
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        if self._peek("["):
            self._elements(path, "]")
        elif self._peek("{"):
            self._elements(path, "}")
        elif self._text[self._at] in "\"'":
            self._string()
        else:
            self._take(_SCALAR)

    def _elements(self, path: KeyPath, end: str) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_SPACE)
            if self._peek(end):
                self._at += 1
                return
            if self._peek(","):
                self._at += 1
            elif end == "}":
                self._pair(path)
            else:
                self._note((*path, index), self._line())
                self._value((*path, index))
                index += 1

    def _string(self) -> str:
        for pattern in _STRINGS:
            if match := pattern.match(self._text, self._at):
                self._at = match.end()
                quoted = match[0]
                return _ESCAPES.sub(r"\1", quoted[1:-1]) if quoted[0] == '"' else quoted[1:-1]
        raise ValueError("not TOML")

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError("not TOML")
        self._at = match.end()
        return match[0]

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        start = self._at
        match = pattern.match(self._text, start)
        self._at = match.end() if match else start
        return self._at > start

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _line(self) -> int:
        low, high = 0, len(self._line_starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._line_starts[middle] <= self._at else (low, middle)
        return low + 1
