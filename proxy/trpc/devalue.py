"""devalue: a value as the text of one flat array, whose members refer to each other by index.

Element 0 is the root. Inside objects and arrays an integer is an index, or a constant when negative. An array that
begins with a string is a value of that type.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from datetime import datetime

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.jsontext import MAX_DEPTH, NotJsonError
from proxy.trpc.values import (
    UNDEFINED,
    BigInt,
    Tagged,
    TransformerError,
    Undefined,
    Value,
    plain,
    read_date,
    write_date,
)
from shadow.json import Json

_HOLE = -2
_SPARSE = -7
_CONSTANTS: dict[int, Value] = {
    -1: UNDEFINED,
    _HOLE: UNDEFINED,
    -3: math.nan,
    -4: math.inf,
    -5: -math.inf,
    -6: -0.0,
}
_encode = msgspec.json.Encoder().encode  # keeps the order of keys, as JSON.stringify does
_LONGEST_SPARSE = 100_000
_SHARED_BUDGET = 100_000


class Devalue:
    """The transformer made of devalue's stringify and parse."""

    name = "devalue"

    def decode(self, wire: Json) -> Value:
        """Return what devalue.parse would, as Python holds it; raises `TransformerError`.

        Shared parts are one object, so a value may hold itself.
        """
        return _read(wire)

    def plain(self, wire: Json) -> Json | Undefined:
        """Return the JSON that stands for the value; raises `TransformerError`."""
        value = _read(wire)
        return plain(value, budget=_SHARED_BUDGET + len(wire))

    def encode(self, value: Value) -> Json:
        """Return the string that devalue.stringify would write; raises `TransformerError`."""
        return _Writing().text(value)


def _read(wire: Json) -> Value:
    if type(wire) is not str:
        raise TransformerError("devalue writes a string; check `transformer` in the contract")
    try:
        parsed = jsontext.parse(wire)
    except NotJsonError as error:
        raise TransformerError(f"the devalue text cannot be read: {error}") from None
    if type(parsed) is int and parsed in _CONSTANTS and parsed != _HOLE:
        return _CONSTANTS[parsed]
    if type(parsed) is not list or not parsed:
        raise TransformerError("the devalue text is no array")
    return _Reading(parsed).value(0, 0)


class _Reading:
    def __init__(self, elements: list[Json]) -> None:
        self._elements = elements
        self._values: dict[int, Value] = {}
        self._open: set[int] = set()

    def value(self, index: Json, depth: int) -> Value:
        """Return the value that `index` refers to; a container is known by its index before it is filled."""
        if type(index) is not int or index >= len(self._elements):
            raise TransformerError("the devalue text refers to what it does not hold")
        if index < 0:
            if index not in _CONSTANTS:
                raise TransformerError("the devalue text holds an unknown constant")
            return _CONSTANTS[index]
        if index in self._values:
            return self._values[index]
        if depth > MAX_DEPTH:
            raise TransformerError(f"the devalue value nests deeper than {MAX_DEPTH} levels")
        return self._fill(index, self._elements[index], depth + 1)

    def _fill(self, index: int, element: Json, depth: int) -> Value:
        if type(element) is dict:
            members: dict[str, Value] = {}
            self._values[index] = members
            members.update((key, self.value(ref, depth)) for key, ref in element.items())
        elif type(element) is not list:
            self._values[index] = element
        elif element and type(element[0]) is str:
            self._fill_typed(index, element[0], element[1:], depth)
        elif element and element[0] == _SPARSE and type(element[0]) is int:
            self._fill_sparse(index, element[1:], depth)
        else:
            items: list[Value] = []
            self._values[index] = items
            items.extend(self.value(ref, depth) for ref in element)
        return self._values[index]

    def _fill_sparse(self, index: int, described: list[Json], depth: int) -> None:
        length = described[0] if described else None
        if type(length) is not int or not 0 <= length <= _LONGEST_SPARSE:
            raise TransformerError("a sparse devalue array is longer than can be read")
        items: list[Value] = [UNDEFINED] * length
        self._values[index] = items
        for at, ref in zip(described[1::2], described[2::2], strict=False):
            if type(at) is not int or not 0 <= at < length:
                raise TransformerError("a sparse devalue array holds an index out of its bounds")
            items[at] = self.value(ref, depth)

    def _fill_typed(self, index: int, kind: str, arguments: list[Json], depth: int) -> None:
        if kind == "null":
            members: dict[str, Value] = {}
            self._values[index] = members
            for key, ref in zip(arguments[::2], arguments[1::2], strict=False):
                members[str(key)] = self.value(ref, depth)
        elif kind in {"Set", "Map"}:
            items: list[Value] = []
            self._values[index] = Tagged(kind, items)
            values = [self.value(ref, depth) for ref in arguments]
            pairs = [list(pair) for pair in zip(values[::2], values[1::2], strict=False)]
            items.extend(values if kind == "Set" else pairs)
        elif kind in _SCALARS and arguments:
            self._values[index] = _SCALARS[kind](arguments)
        else:
            self._fill_wrapped(index, kind, arguments, depth)

    def _fill_wrapped(self, index: int, kind: str, arguments: list[Json], depth: int) -> None:
        """Read a value that wraps another: a boxed primitive, a view of a buffer, a type of the application's own."""
        if index in self._open:
            raise TransformerError("a devalue value wraps itself")
        self._open.add(index)
        wrapped = self.value(arguments[0], depth) if arguments and type(arguments[0]) is int else arguments
        self._open.discard(index)
        if isinstance(wrapped, Tagged) and wrapped.tag == "ArrayBuffer":
            self._values[index] = _view(kind, wrapped.value, arguments[1:])
        else:
            self._values[index] = Tagged(kind, wrapped)


def _view(kind: str, text: Json, bounds: list[Json]) -> Value:
    if kind == "Uint8Array" and not bounds and isinstance(text, str):
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            pass
    return Tagged(kind, [text, *bounds])


def _read_bigint(arguments: list[Json]) -> Value:
    text = arguments[0]
    if isinstance(text, str) and text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 4000:
        return BigInt(text)
    return Tagged("BigInt", text)


def _read_regexp(arguments: list[Json]) -> Value:
    source, flags = arguments[0], arguments[1] if len(arguments) > 1 else ""
    return Tagged("RegExp", f"/{source}/{flags}")


def _kept(kind: str) -> Callable[[list[Json]], Value]:
    return lambda arguments: Tagged(kind, arguments[0])


_TEXTS = {"URL", "URLSearchParams", "ArrayBuffer"} | {
    f"Temporal.{name}"
    for name in (
        "Duration",
        "Instant",
        "PlainDate",
        "PlainTime",
        "PlainDateTime",
        "PlainMonthDay",
        "PlainYearMonth",
        "ZonedDateTime",
    )
}
_SCALARS: dict[str, Callable[[list[Json]], Value]] = {
    "Date": lambda arguments: read_date(arguments[0]),
    "BigInt": _read_bigint,
    "RegExp": _read_regexp,
    **{kind: _kept(kind) for kind in _TEXTS},
}


class _Writing:
    """One value on its way to text; equal primitives and identical objects share an index."""

    def __init__(self) -> None:
        self._elements: list[Json] = []
        self._indices: dict[object, int] = {}
        self._alive: list[Value] = []  # an id is only a name while its object lives

    def text(self, value: Value) -> str:
        try:
            root = self._refer(value)
        except RecursionError:
            raise TransformerError("the value nests too deeply for devalue") from None
        return str(root) if root < 0 else _encode(self._elements).decode()

    def _refer(self, value: Value) -> int:
        constant = _constant(value)
        if constant is not None:
            return constant
        identity = _identity(value)
        if identity in self._indices:
            return self._indices[identity]
        index = len(self._elements)
        self._indices[identity] = index
        self._alive.append(value)
        self._elements.append(None)
        self._elements[index] = self._element(value)
        return index

    def _element(self, value: Value) -> Json:
        if value is None or type(value) in {bool, int, str, float}:
            return value
        if isinstance(value, dict):
            if "__proto__" in value:
                raise TransformerError("devalue refuses the key '__proto__'")
            return {key: self._refer(member) for key, member in value.items()}
        if isinstance(value, list | tuple):
            return [self._refer(item) for item in value]
        if isinstance(value, Tagged):
            return self._tagged(value)
        if isinstance(value, datetime):
            return ["Date", write_date(value)]
        if isinstance(value, BigInt):
            return ["BigInt", str(int(value))]
        if isinstance(value, bytes):
            return ["Uint8Array", self._refer(Tagged("ArrayBuffer", base64.b64encode(value).decode()))]
        raise TransformerError(f"devalue cannot write a {type(value).__name__}")

    def _tagged(self, value: Tagged) -> Json:
        kind, inner = value.tag, value.value
        if kind == "Set":
            return [kind, *(self._refer(item) for item in inner)]
        if kind == "Map":
            return [kind, *(self._refer(part) for pair in inner for part in pair)]
        if kind == "RegExp":
            source, _, flags = inner[1:].rpartition("/")
            return [kind, source, flags] if flags else [kind, source]
        if kind in _SCALARS:
            return [kind, inner]
        return [kind, self._refer(inner)]


def _constant(value: Value) -> int | None:
    if value is UNDEFINED:
        return -1
    if type(value) is not float:
        return None
    if math.isnan(value):
        return -3
    if math.isinf(value):
        return -4 if value > 0 else -5
    return -6 if value == 0 and math.copysign(1, value) < 0 else None


def _identity(value: Value) -> object:
    if value is None or isinstance(value, bool | str):
        return (type(value), value)
    if type(value) is int or type(value) is float:
        return (float, value)
    return (object, id(value))
