"""One table of a contract file while it is being read: what it says, and every mistake that it makes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from shadow.contract.positions import KeyPath
from shadow.contract.problems import Problem
from shadow.expressions import CompileError, Expression, Kind, compile_expression

Choice = TypeVar("Choice", bound=StrEnum)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BROKEN = compile_expression("null", frozenset())
"""Stands for an expression with a mistake: it is never evaluated, because a contract with mistakes is never used."""


@dataclass(slots=True)
class Report:
    """The problems found so far, and where keys stand."""

    file: str
    lines: Mapping[KeyPath, int]
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: KeyPath, message: str, hint: str = "", *, below: int = 0) -> None:
        """Note a mistake at `path`, or `below` lines further down if its value has several."""
        self.problems.append(Problem(self.file, spell(path), self._line(path) + below, message, hint))

    def _line(self, path: KeyPath) -> int:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def spell(path: KeyPath) -> str:
    """Write a path as its author would: `mutation."session.create".events[1].when`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


class Section:
    """One table. Reading a key marks it as known; `finish` complains about those that nobody read."""

    def __init__(
        self, report: Report, path: KeyPath, table: Mapping[str, Any], defaults: Section | None = None
    ) -> None:
        self.path = path
        self._report = report
        self._table = table
        self._known: set[str] = set()
        self._defaults = defaults

    def __contains__(self, key: str) -> bool:
        return key in self._table or (self._defaults is not None and key in self._defaults)

    @property
    def where(self) -> str:
        """The place in the contract."""
        return spell(self.path)

    def problem(self, key: str | None, message: str, hint: str = "") -> None:
        """Note a mistake at `key`, or in the table as a whole."""
        self._report.add(self.path if key is None else (*self.path, key), message, hint)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not empty; without a default it has to be there."""
        value = self._take(key, default)
        if not isinstance(value, str) or not value:
            self._wrong(key, value, "a text", f'{key} = "…"')
            return ""
        return value

    def texts(self, key: str, default: tuple[str, ...] | None = ()) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._take(key, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) and item for item in value):
            self._wrong(key, value, "a list of texts", f'{key} = ["…", "…"]')
            return ()
        return tuple(value)

    def choice(self, key: str, default: Choice) -> Choice:
        """Return one of the words of `default`'s enumeration."""
        value = self._take(key, default.value)
        words = [word.value for word in type(default)]
        if not isinstance(value, str) or value not in words:
            close = difflib.get_close_matches(str(value), words, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"write one of: {', '.join(words)}"
            self.problem(key, f"{value!r} is not possible here", hint)
            return default
        return type(default)(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self._wrong(key, value, "true or false", f"{key} = {str(default).lower()}")
        return bool(value)

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number that is not negative."""
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self._wrong(key, value, "a whole number", f"{key} = {7 if default is None else default}")
            return 0
        return value

    def duration(self, key: str, default: str) -> float:
        """Return a length of time in seconds."""
        value = self._take(key, default)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            self._wrong(key, value, "a length of time", f'{key} = "{default}"; units are ms, s, m, h and d')
            return 0.0
        return float(match[1]) * _UNITS[match[2]]

    def raw(self, key: str) -> Any:
        """Return whatever stands at `key`, or None."""
        return self._take(key, None, required=False)

    def expression(self, key: str, variables: frozenset[str], kind: Kind, default: str | None = None) -> Expression:
        """Return a compiled expression; without a default it has to be there."""
        source = self.text(key, default)
        return self._compile(key, source, variables, kind) if source else _BROKEN

    def optional_expression(self, key: str, variables: frozenset[str], kind: Kind) -> Expression | None:
        """Return a compiled expression if there is one."""
        self._known.add(key)
        return self.expression(key, variables, kind) if key in self else None

    def section(self, key: str) -> Section | None:
        """Return the table at `key` if there is one."""
        self._known.add(key)
        if key not in self:
            return None
        value = self._take(key, None)
        if not isinstance(value, dict):
            self._wrong(key, value, "a table", f"{key} = {{ … }}")
            return None
        return Section(self._report, (*self.path, key), value)

    def sections(self, key: str, defaults: Section | None = None) -> Iterator[Section]:
        """Yield the tables of the list at `key`; `defaults` speaks for what they leave out."""
        value = self._take(key, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, dict) for item in value):
            self._wrong(key, value, "a list of tables", f"{key} = [ {{ … }} ]")
            return
        for index, item in enumerate(value):
            yield Section(self._report, (*self.path, key, index), item, defaults)

    def named_sections(self) -> Iterator[tuple[str, Section]]:
        """Yield the tables below this one with their names."""
        for name, value in self._table.items():
            self._known.add(name)
            if isinstance(value, dict):
                yield name, Section(self._report, (*self.path, name), value)
            else:
                self.problem(name, "a table is needed here", f"[{spell((*self.path, name))}]")

    def know(self, keys: frozenset[str]) -> None:
        """Mark keys as known that only tables below this one read, as their defaults."""
        self._known |= keys

    def finish(self) -> None:
        """Complain about every key that means nothing here."""
        for key in self._table:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                known = ", ".join(sorted(self._known))
                hint = f"did you mean {close[0]!r}?" if close else f"possible here: {known}"
                self.problem(key, "unknown key", hint)

    def _compile(self, key: str, source: str, variables: frozenset[str], kind: Kind) -> Expression:
        try:
            return compile_expression(source, variables, kind)
        except CompileError as error:
            path = self._path_of(key)
            for mistake in error.mistakes:
                place = f" at column {mistake.column}" if mistake.line == 1 else f" at {mistake.line}:{mistake.column}"
                message = f"in the expression{place}: {mistake.message}"
                self._report.add(path, message, mistake.hint, below=mistake.line - 1)
            return _BROKEN

    def _path_of(self, key: str) -> KeyPath:
        if key not in self._table and self._defaults is not None and key in self._defaults:
            return self._defaults._path_of(key)
        return (*self.path, key)

    def _take(self, key: str, default: Any, *, required: bool = True) -> Any:
        self._known.add(key)
        if key in self._table:
            return self._table[key]
        if self._defaults is not None and key in self._defaults:
            return self._defaults._take(key, default)
        if default is None and required:
            return _MISSING
        return default

    def _wrong(self, key: str, value: Any, wanted: str, hint: str) -> None:
        if value is _MISSING:
            self.problem(key, "is missing", f"write {hint}")
        else:
            self.problem(key, f"this is not {wanted}", f"write {hint}")


_MISSING = object()
