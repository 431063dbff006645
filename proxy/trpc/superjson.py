"""superjson 1 and 2: JSON beside a tree of annotations that says which parts were more than JSON.

`meta.values` is such a tree: `[type]` or `[type, children]` annotates a node, an object leads on by paths. Children
are converted before the node that holds them, so a map's entries are whole before the map is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

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

_SHARED_BUDGET = 200_000


class SuperJson:
    """The superjson transformer."""

    name = "superjson"

    def decode(self, wire: Json) -> Value:
        """Return what superjson.deserialize would, as Python holds it; raises `TransformerError`."""
        payload, meta = _parts(wire)
        if not meta:
            return payload
        try:
            return _Revival(payload, meta).value()
        except RecursionError:
            raise TransformerError("the superjson value nests too deeply") from None

    def plain(self, wire: Json) -> Json | Undefined:
        """Return the JSON that stands for the value; raises `TransformerError`."""
        payload, meta = _parts(wire)
        if not meta:
            return payload
        budget = _SHARED_BUDGET if meta.get("referentialEqualities") else math.inf
        return plain(self.decode(wire), budget=budget)

    def encode(self, value: Value) -> Json:
        """Return what superjson.serialize would write; raises `TransformerError`."""
        try:
            payload, annotations = _write(value)
        except RecursionError:
            raise TransformerError("the value nests too deeply for superjson") from None
        if annotations is None:
            return {"json": payload}
        return {"json": payload, "meta": {"values": annotations, "v": 1}}


def _parts(wire: Json) -> tuple[Json, dict[str, Json]]:
    if type(wire) is not dict or "json" not in wire:
        raise TransformerError("superjson writes an object with the key `json`; check `transformer` in the contract")
    meta = wire.get("meta")
    if meta is not None and type(meta) is not dict:
        raise TransformerError("superjson's `meta` is an object")
    return wire["json"], meta or {}


class _Revival:
    """One payload on its way to the value it stands for; works on a copy."""

    def __init__(self, payload: Json, meta: dict[str, Json]) -> None:
        self._root = [_copy(payload)]
        self._meta = meta
        version = meta.get("v")
        self._escapes = isinstance(version, int) and version >= 1

    def value(self) -> Value:
        self._annotate(self._meta.get("values"), ["0"])
        self._share(self._meta.get("referentialEqualities"))
        return self._root[0]

    def _annotate(self, tree: Json, path: list[str]) -> None:
        if isinstance(tree, list) and tree:
            self._annotate_below(tree[1] if len(tree) > 1 else None, path)
            self._replace(path, lambda raw: _revive(tree[0], raw))
        else:
            self._annotate_below(tree, path)

    def _annotate_below(self, children: Json, path: list[str]) -> None:
        if isinstance(children, list):
            children = {str(index): child for index, child in enumerate(children)}
        if isinstance(children, dict):
            for key, child in children.items():
                self._annotate(child, path + _split(key, self._escapes))

    def _share(self, equalities: Json) -> None:
        if isinstance(equalities, list):
            if equalities and isinstance(equalities[0], list):
                self._copy_to([], equalities[0])
            equalities = equalities[1] if len(equalities) > 1 else None
        if isinstance(equalities, dict):
            for source, targets in equalities.items():
                self._copy_to(_split(source, self._escapes), targets)

    def _copy_to(self, source: list[str], targets: Json) -> None:
        found, shared = _descend(self._root, ["0", *source])
        for target in targets if found and isinstance(targets, list) else ():
            if isinstance(target, str):
                self._replace(["0", *_split(target, self._escapes)], lambda _: shared)

    def _replace(self, path: list[str], convert: Callable[[Json], Value]) -> None:
        """Convert the value at `path`; a path that leads nowhere is passed over, as superjson does."""
        found, parent = _descend(self._root, path[:-1])
        parent = parent.value if isinstance(parent, Tagged) else parent
        slot = _slot(parent, path[-1]) if found else None
        if slot is not None:
            parent[slot] = convert(parent[slot])


def _copy(value: Json) -> Json:
    if type(value) is dict:
        return {key: _copy(member) for key, member in value.items()}
    if type(value) is list:
        return [_copy(item) for item in value]
    return value


def _split(path: str, escapes: bool) -> list[str]:
    r"""Split at dots; `\.` is a dot, and since version 1 `\\` is a backslash."""
    if "\\" not in path:
        return path.split(".")
    segments = [""]
    characters = iter(path)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            if following == "." or (escapes and following == "\\"):
                segments[-1] += following
                continue
            segments[-1] += character
            character = following
        if character == ".":
            segments.append("")
        else:
            segments[-1] += character
    return segments


def _descend(node: Value, path: list[str]) -> tuple[bool, Value]:
    for key in path:
        container = node.value if isinstance(node, Tagged) else node
        slot = _slot(container, key)
        if slot is None:
            return False, None
        node = container[slot]
    return True, node


def _slot(container: Value, key: str) -> int | str | None:
    if isinstance(container, dict):
        return key if key in container else None
    if isinstance(container, list) and key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(container):
        return int(key)
    return None


def _revive(tag: Json, raw: Value) -> Value:
    reader = _READERS.get(tag) if isinstance(tag, str) else None
    if reader is not None:
        return reader(raw)
    if tag == ["typed-array", "Uint8Array"] and _is_bytes(raw):
        return bytes(raw)
    return Tagged(tag, raw)


def _is_bytes(raw: Value) -> bool:
    return isinstance(raw, list) and all(type(item) is int and 0 <= item < 256 for item in raw)


def _read_bigint(raw: Json) -> Value:
    if isinstance(raw, str) and raw.isascii() and raw.removeprefix("-").isdigit() and len(raw) <= 4000:
        return BigInt(raw)
    return Tagged("bigint", raw)


_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "-0": -0.0}


def _read_number(raw: Json) -> Value:
    number = _NUMBERS.get(raw) if isinstance(raw, str) else None
    return Tagged("number", raw) if number is None else number


_READERS: dict[str, Callable[[Json], Value]] = {
    "undefined": lambda raw: UNDEFINED,
    "Date": read_date,
    "bigint": _read_bigint,
    "number": _read_number,
}


def _write(value: Value) -> tuple[Json, Json]:
    """Return the JSON of `value` and its annotations: None, a list (the node itself) or an object (below it)."""
    if value is None or isinstance(value, str | bool):
        return value, None
    if isinstance(value, Tagged):
        payload, below = _write(value.value)
        return payload, [value.tag] if not isinstance(below, dict) else [value.tag, below]
    if isinstance(value, dict):
        return _write_members(value)
    if isinstance(value, list | tuple):
        payload, annotations = _write_members({str(index): item for index, item in enumerate(value)})
        return list(payload.values()), annotations
    return _write_scalar(value)


def _write_members(members: dict[str, Value]) -> tuple[dict[str, Json], Json]:
    payload: dict[str, Json] = {}
    annotations: dict[str, Json] = {}
    for key, member in members.items():
        if key in {"__proto__", "constructor", "prototype"}:
            raise TransformerError(f"superjson refuses the key {key!r}")
        payload[key], below = _write(member)
        escaped = key.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(below, list):
            annotations[escaped] = below
        elif below is not None:
            annotations.update((f"{escaped}.{path}", tree) for path, tree in below.items())
    return payload, annotations or None


def _write_scalar(value: Value) -> tuple[Json, Json]:
    if value is UNDEFINED:
        return None, ["undefined"]
    if isinstance(value, datetime):
        return write_date(value), ["Date"]
    if isinstance(value, bytes):
        return list(value), [["typed-array", "Uint8Array"]]
    if isinstance(value, int):
        return (str(int(value)), ["bigint"]) if isinstance(value, BigInt) else (value, None)
    if isinstance(value, float):
        return _write_number(value)
    raise TransformerError(f"superjson cannot write a {type(value).__name__}")


def _write_number(value: float) -> tuple[Json, Json]:
    if math.isnan(value):
        return "NaN", ["number"]
    if math.isinf(value):
        return ("Infinity" if value > 0 else "-Infinity"), ["number"]
    if value == 0 and math.copysign(1, value) < 0:
        return "-0", ["number"]
    return value, None
