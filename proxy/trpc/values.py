"""JavaScript values that plain JSON cannot hold, as Python holds them."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, Literal, TypeAlias

from proxy.trpc.jsontext import MAX_DEPTH
from shadow.json import Json

Value: TypeAlias = Any
"""JSON, or UNDEFINED, BigInt, an aware datetime, bytes, a float that is no JSON number, a `Tagged`, at any depth."""


class Undefined(Enum):
    """The type of UNDEFINED."""

    UNDEFINED = "undefined"

    def __repr__(self) -> str:
        return "UNDEFINED"

    def __bool__(self) -> Literal[False]:
        return False


UNDEFINED: Final = Undefined.UNDEFINED
"""JavaScript's undefined: an absent input, the output of a void mutation. Not null."""


class BigInt(int):
    """A JavaScript bigint. A plain int, however large, is a JavaScript number: the double nearest to it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value of a type that Python lacks: the transformer's own tag and what stood beside it.

    A set holds a list, a map a list of [key, value]; what only the application can read stays as it came.
    """

    tag: Json
    value: Value


class TransformerError(Exception):
    """The wire does not hold what the transformer writes, or the value is none it can write; quotes no data."""


_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def read_date(text: Json) -> datetime | Tagged:
    """Read what `Date.prototype.toISOString` writes; a date that Python cannot hold is kept with its tag."""
    if isinstance(text, str) and _ISO.fullmatch(text):
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    return Tagged("Date", text)


def write_date(moment: datetime) -> str:
    """Write as `Date.prototype.toISOString` does; raises `TransformerError` for a datetime without a zone."""
    if moment.tzinfo is None:
        raise TransformerError("a datetime without a time zone names no moment; give it one (datetime.UTC)")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain(value: Value, *, budget: float = math.inf) -> Json | Undefined:
    """Return the JSON that stands for `value` in events and rules.

    Like JSON.stringify: undefined is dropped from objects and null in lists, NaN and Infinity are null, dates are ISO
    text. Unlike it: a bigint is its digits, a set or map a list, bytes are base64, and a cycle ends in null. `budget`
    bounds how many values may come of a small text with shared parts; raises `TransformerError` beyond it.
    """
    return _Plain(budget).of(value, ())


class _Plain:
    def __init__(self, budget: float) -> None:
        self._budget = budget

    def of(self, value: Value, ancestors: Sequence[int]) -> Json | Undefined:
        self._budget -= 1
        if self._budget < 0 or len(ancestors) > MAX_DEPTH:
            raise TransformerError("the value expands beyond what can be read")
        kind = type(value)
        if kind is str or kind is int or kind is bool or value is None or value is UNDEFINED:
            return value
        if kind is Tagged:
            return self.of(value.value, (*ancestors, id(value)))
        if kind is dict or kind is list or kind is tuple:
            return self._container(value, ancestors)
        return _plain_scalar(value)

    def _container(self, value: Value, ancestors: Sequence[int]) -> Json:
        if id(value) in ancestors:
            return None
        ancestors = (*ancestors, id(value))
        if isinstance(value, dict):
            members = ((key, self.of(member, ancestors)) for key, member in value.items())
            return {key: member for key, member in members if member is not UNDEFINED}
        items = (self.of(item, ancestors) for item in value)
        return [None if item is UNDEFINED else item for item in items]


def _plain_scalar(value: Value) -> Json:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return write_date(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, BigInt):
        return str(int(value))
    raise TransformerError(f"a {type(value).__name__} is no value of the wire")
