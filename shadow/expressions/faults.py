"""What went wrong with an expression, in sentences that never contain a value: values may be secret."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from shadow.expressions.paths import Path
from shadow.json import Json


class EvaluationError(Exception):
    """An expression that cannot be evaluated on these values; the message names fields, never values."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in an expression's text, at a line and column counted from 1."""

    line: int
    column: int
    message: str
    hint: str = ""


class CompileError(Exception):
    """An expression that means nothing: all its mistakes."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = mistakes


_REPORTED = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^'.]*)[^']*'")
_OVERLOAD = re.compile(r"found no matching overload for '([^']+)' applied to '(\([^']*\))'")
_OPERANDS = re.compile(r"No matching overloads found : (\S+?)(?:\(([\w, ]*)\))?$")
_OPERATOR = re.compile(r"_([^\w\s]+)_")
_UNKNOWN = re.compile(r'No value with name "(\w+)" found')
_KEY_MISSING = re.compile(r'Key not found in map : "(.*)"')


def mistakes_in(report: str, source: str, variables: Collection[str]) -> tuple[Mistake, ...]:
    """Read CEL's report on `source` into sentences; there is always at least one."""
    found = tuple(
        _mistake(int(line), int(column), text, source, variables) for line, column, text in _REPORTED.findall(report)
    )
    return found or (Mistake(1, 1, "CEL cannot read this expression"),)


def _mistake(line: int, column: int, text: str, source: str, variables: Collection[str]) -> Mistake:
    if undeclared := _UNDECLARED.match(text):
        name = undeclared[1]
        at = source.split("\n")[line - 1].rfind(name, 0, column + len(name))
        known = ", ".join(sorted(variables))
        close = difflib.get_close_matches(name, variables, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {known}"
        return Mistake(line, at + 1 if at >= 0 else column, f"unknown name {name!r}", hint)
    if overload := _OVERLOAD.match(text):
        return Mistake(line, column, f"{_operator(overload[1])} does not take {overload[2]}")
    return Mistake(line, column, text.removeprefix("Syntax error: "))


def _operator(function: str) -> str:
    operator = _OPERATOR.fullmatch(function)
    return repr(operator[1] if operator else function)


def explain(report: str, paths: tuple[Path, ...], values: Mapping[str, Json]) -> str:
    """Say why CEL failed with `report` when it read `paths` of `values`."""
    if unknown := _UNKNOWN.search(report):
        return f"`{unknown[1]}` is not known here"
    if missing := _KEY_MISSING.search(report):
        return _missing(missing[1], paths, values)
    if "SELECT" in report or "_?._" in report or "_[_]" in report or "_[?_]" in report:
        stops = (_stop(path, values) for path in paths)
        return next(filter(None, stops), "a field was read of something that is no object")
    if operands := _OPERANDS.search(report):
        if operands[1] == "<jump_condition>":
            return "a condition is neither true nor false"
        return (
            f"{_operator(operands[1])} does not take {f'({operands[2]})' if operands[2] else 'values of these kinds'}"
        )
    if "Index error" in report:
        return "a list has no element at the index that was read"
    if "divide by zero" in report or "modulus by zero" in report:
        return "a number was divided by zero"
    if "overflow" in report or "out of range" in report:
        return "a number is too big for an expression (whole numbers have 64 bits)"
    if "duplicate key" in report.lower():
        return "a map was given the same key twice"
    return "it cannot be evaluated on these values"


def _missing(field: str, paths: tuple[Path, ...], values: Mapping[str, Json]) -> str:
    """Name the absent field if the expression itself names it; a computed key may be a value and is not shown."""
    for path in paths:
        if field in path[1:] and (sentence := _stop(path, values)):
            return sentence
    return "a key was read that is not there"


def _stop(path: Path, values: Mapping[str, Json]) -> str | None:
    """Say where following `path` through `values` ends early, if it does."""
    value: Json = values
    for depth, name in enumerate(path):
        so_far = ".".join(path[:depth])
        if not isinstance(value, dict) and depth > 0:
            return f"`{so_far}` is {kind_of(value)}, so it has no `{name}`"
        if name not in value:
            return f"`{so_far}` has no `{name}`" if depth else f"`{name}` is not known here"
        value = value[name]
    return None


def kind_of(value: Json) -> str:
    """Name the kind of a value: "null", "text", "a number"."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return kinds.get(type(value), "no JSON value")
