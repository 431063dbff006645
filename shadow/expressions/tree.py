"""What a checked CEL expression is made of, read from the form in which CEL itself hands it out.

CEL serialises a checked expression as the protocol buffer `cel.expr.CheckedExpr` (wrapped in an `Any`). Only its few
messages are read here, so no protocol buffer library is needed, and what an expression refers to is known from
CEL's own parser and checker instead of from a second, slightly different one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Const:
    """A literal: None, bool, int, float, str; what JSON cannot hold (bytes, unsigned) has `plain` False."""

    id: int
    value: bool | int | float | str | None
    plain: bool = True


@dataclass(frozen=True, slots=True)
class Ident:
    """A variable, or the name of a type."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` when `test` is set."""

    id: int
    operand: Node
    field: str
    test: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator (`_+_`, `_?_:_`, `_[_]`, `_?._`); `target` is what stands before the dot."""

    id: int
    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Listing:
    """`[a, ?b]`; `optional` holds the indices of the elements that may be left out."""

    id: int
    elements: tuple[Node, ...]
    optional: frozenset[int]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a map literal; `optional` when it may be left out. A message literal's field has no key node."""

    key: Node | None
    value: Node
    optional: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """`{key: value}`, or a message literal when `message` is not empty."""

    id: int
    message: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What the macros `map`, `filter`, `all`, `exists` become: a fold over `range`."""

    id: int
    bound: tuple[str, ...]
    accumulator: str
    range: Node
    start: Node
    condition: Node
    step: Node
    result: Node


Node: TypeAlias = Const | Ident | Select | Call | Listing | Mapped | Comprehension


@dataclass(frozen=True, slots=True)
class Tree:
    """An expression's nodes, and the ids of those whose static type is an optional value."""

    root: Node
    optionals: frozenset[int]


def read(serialized: bytes) -> Tree:
    """Read what `cel.Expression.serialize` wrote."""
    wrapper = _fields(serialized)
    checked = _fields(wrapper[2][0])
    optionals = frozenset(_optionals(checked.get(3, [])))
    return Tree(_node(checked[4][0]), optionals)


def children(node: Node) -> Iterator[Node]:
    """Yield the nodes directly below `node`."""
    match node:
        case Select():
            yield node.operand
        case Call():
            if node.target is not None:
                yield node.target
            yield from node.args
        case Listing():
            yield from node.elements
        case Mapped():
            for entry in node.entries:
                if entry.key is not None:
                    yield entry.key
                yield entry.value
        case Comprehension():
            yield from (node.range, node.start, node.condition, node.step, node.result)
        case _:
            return


# --- the wire format ------------------------------------------------------------------------------------------------

_Fields: TypeAlias = "Mapping[int, list[bytes]]"


def _fields(data: bytes) -> dict[int, list[bytes]]:
    """Split a message into its fields; numbers stay in the bytes that carried them."""
    found: dict[int, list[bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        start = at
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 2:
            length, start = _varint(data, at)
            at = start + length
        else:
            at += 4
        found.setdefault(number, []).append(data[start:at])
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _number(message: _Fields, field: int) -> int:
    return _varint(message[field][0], 0)[0] if field in message else 0


def _text(message: _Fields, field: int) -> str:
    return message[field][0].decode() if field in message else ""


def _optionals(types: list[bytes]) -> Iterator[int]:
    """Yield the ids of nodes whose type is the abstract type `optional_type`."""
    for entry in map(_fields, types):
        kind = _fields(entry[2][0]) if 2 in entry else {}
        if 14 in kind and _text(_fields(kind[14][0]), 1) == "optional_type":
            yield _number(entry, 1)


def _node(data: bytes) -> Node:
    message = _fields(data)
    id_ = _number(message, 2)
    if 3 in message:
        return _const(id_, _fields(message[3][0]))
    if 4 in message:
        return Ident(id_, _text(_fields(message[4][0]), 1))
    if 5 in message:
        select = _fields(message[5][0])
        return Select(id_, _node(select[1][0]), _text(select, 2), bool(_number(select, 3)))
    if 6 in message:
        call = _fields(message[6][0])
        target = _node(call[1][0]) if 1 in call else None
        return Call(id_, _text(call, 2), target, tuple(map(_node, call.get(3, []))))
    if 7 in message:
        listing = _fields(message[7][0])
        return Listing(id_, tuple(map(_node, listing.get(1, []))), frozenset(_packed(listing.get(2, []))))
    if 8 in message:
        mapped = _fields(message[8][0])
        return Mapped(id_, _text(mapped, 1), tuple(map(_entry, mapped.get(2, []))))
    return _comprehension(id_, _fields(message[9][0]))


def _const(id_: int, constant: _Fields) -> Const:
    if 2 in constant:
        return Const(id_, bool(_number(constant, 2)))
    if 3 in constant:
        unsigned = _number(constant, 3)
        return Const(id_, unsigned - (1 << 64) if unsigned >> 63 else unsigned)
    if 5 in constant:
        return Const(id_, float(struct.unpack("<d", constant[5][0])[0]))
    if 6 in constant:
        return Const(id_, _text(constant, 6))
    return Const(id_, None, plain=1 in constant)


def _entry(data: bytes) -> Entry:
    entry = _fields(data)
    key = _node(entry[3][0]) if 3 in entry else None
    return Entry(key, _node(entry[4][0]), bool(_number(entry, 5)))


def _comprehension(id_: int, fold: _Fields) -> Comprehension:
    bound = tuple(name for name in (_text(fold, 1), _text(fold, 8)) if name)
    range_, start, condition, step, result = (_node(fold[field][0]) for field in (2, 4, 5, 6, 7))
    return Comprehension(id_, bound, _text(fold, 3), range_, start, condition, step, result)


def _packed(chunks: list[bytes]) -> Iterator[int]:
    for chunk in chunks:
        at = 0
        while at < len(chunk):
            index, at = _varint(chunk, at)
            yield index
