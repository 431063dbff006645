"""Which procedures a request names.

Adapters find the procedure in very different ways: some cut the base path off by its length without comparing it,
some take what follows the last slash, some resolve dots, some decode first and look later. A target that two of them
would read differently is refused, because the one that we do not think of may run a mutation that nobody mirrors.
"""

from __future__ import annotations

import re
from collections.abc import Container
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec


class Calls(msgspec.Struct, frozen=True):
    """The procedures that a request calls, in their order; in a batch, correlated by index."""

    paths: tuple[str, ...]
    batch: bool
    query_input: str | None = None
    """The decoded `input` parameter; only GET takes its input from there."""

    def __repr__(self) -> str:
        return f"Calls(paths={self.paths!r}, batch={self.batch})"  # inputs may hold secrets


class NotCalls(msgspec.Struct, frozen=True):
    """The request calls no procedure, whatever the adapter: it passes untouched."""


class Refused(msgspec.Struct, frozen=True):
    """An adapter could read the target differently; `reason` is a sentence for whoever sent it."""

    reason: str


Target: TypeAlias = Calls | NotCalls | Refused

_NOT_CALLS = NotCalls()
_PLAIN_SEGMENT = re.compile(rb"[A-Za-z0-9_~,-]+(?:\.+[A-Za-z0-9_~,-]+)*\.*/?")
_ODD_BYTES = re.compile(rb"[^\x21-\x7e]|[#\\]")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NO_PROCEDURES: frozenset[str] = frozenset()


def parse_target(
    method: str,
    raw_path: bytes,
    query: bytes,
    *,
    base_path: str,
    separator: str = ".",
    procedures: Container[str] = _NO_PROCEDURES,
) -> Target:
    """Read the target of a request to a tRPC server mounted at `base_path`.

    `separator` is the server's pathSeparator; procedures are always named with dots. `procedures` are names that must
    not be reachable past the base path, on adapters that do not compare it: the contract's.
    """
    if method in {"HEAD", "OPTIONS"}:
        return _NOT_CALLS  # no adapter runs a procedure for these
    base = _base(base_path)
    segment = raw_path[len(base) :]
    if raw_path.startswith(base) and _PLAIN_SEGMENT.fullmatch(segment):
        return _calls(segment.rstrip(b"/").decode("ascii"), query, separator)
    return _parse_odd_target(raw_path, query, base, separator, procedures)


@lru_cache(maxsize=64)
def _base(base_path: str) -> bytes:
    trimmed = base_path.strip("/")
    return f"/{trimmed}/".encode() if trimmed else b"/"


def _calls(segment: str, query: bytes, separator: str) -> Calls | Refused:
    if not query:
        batch, query_input = False, None
    elif query == b"batch=1":
        batch, query_input = True, None
    else:
        parameters = _parameters(query)
        if isinstance(parameters, Refused):
            return parameters
        batch, query_input = parameters
    if separator != ".":
        segment = segment.replace(separator, ".")
    return Calls(tuple(segment.split(",")) if batch else (segment,), batch, query_input)


def _parameters(query: bytes) -> tuple[bool, str | None] | Refused:
    """Read `batch` and `input`; of repeated ones the first counts, as in URLSearchParams.get."""
    if b"#" in query:
        return Refused("the query holds a #, where some servers end it; encode it as %23")
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        name = _form_decoded(name)
        if name == b"batch" and _form_decoded(value) not in {b"1", b""}:
            return Refused("v10 takes every value of `batch` for a batch and v11 only 1; send batch=1")
        if name.startswith(b"batch["):
            return Refused("some servers take `batch[…]` for `batch`; send batch=1")
        if name == b"batch" and found.get(b"batch", value) != value:
            return Refused("`batch` is given twice with different values; send it once")
        found.setdefault(name, value)
    query_input = found.get(b"input")
    decoded = None if query_input is None else _form_decoded(query_input).decode("utf-8", "replace")
    return found.get(b"batch", b"") != b"", decoded


def _form_decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _parse_odd_target(raw_path: bytes, query: bytes, base: bytes, separator: str, procedures: Container[str]) -> Target:
    if not raw_path.startswith(b"/"):
        return Refused("the target is not a path; send the path alone, beginning with /")
    if raw_path.startswith(b"//"):
        return Refused("some servers take what follows two slashes for a host name; begin the path with one /")
    if _ODD_BYTES.search(raw_path):
        return Refused("the path holds a byte that servers read differently; percent-encode it")
    if raw_path == base or raw_path == base[:-1] or raw_path == b"/":
        return _NOT_CALLS
    if raw_path.startswith(base):
        return _parse_odd_segment(raw_path[len(base) :], query, separator, mounted=len(base) > 1, procedures=procedures)
    if _resolved(raw_path).startswith(_resolved(base)):
        return Refused(f"the path leads to {base.decode()} in a roundabout way; write it plainly")
    return _outside(raw_path, base, separator, procedures)


def _parse_odd_segment(
    segment: bytes, query: bytes, separator: str, *, mounted: bool, procedures: Container[str]
) -> Target:
    if _BAD_ESCAPE.search(segment):
        return Refused("the path holds a % that begins no escape; encode it as %25")
    try:
        decoded = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return Refused("the path decodes to bytes that are no UTF-8")
    trimmed = decoded.removesuffix("/") if segment.endswith(b"/") else decoded
    if trimmed in {".", ".."}:
        return Refused("servers resolve a path of dots; name the procedure")
    if "\\" in trimmed or not trimmed.isprintable():
        return Refused("the path holds a character that servers read differently")
    if "/" in trimmed:
        return _nested(trimmed, separator, mounted=mounted, procedures=procedures)
    return _calls(trimmed, query, separator)


def _nested(path: str, separator: str, *, mounted: bool, procedures: Container[str]) -> Target:
    """Judge a path of several segments: Express takes the last one, others find no such procedure."""
    last = path.rstrip("/").rpartition("/")[2]
    if mounted or {".", ".."} & set(path.split("/")) or _names(last, separator, procedures):
        return Refused("the path has several segments; some servers would take its last for the procedure")
    return _NOT_CALLS


def _outside(raw_path: bytes, base: bytes, separator: str, procedures: Container[str]) -> Target:
    """Judge a path beyond the base path, which some adapters cut off by its length alone."""
    for path in (raw_path, _resolved(raw_path)):
        rest = unquote_to_bytes(path.strip(b"/")[len(base) - 2 :]).decode("utf-8", "replace")
        if _names(rest.strip("/"), separator, procedures):
            return Refused(f"servers that do not compare the base path would run this; call it under {base.decode()}")
    return _NOT_CALLS


def _names(segment: str, separator: str, procedures: Container[str]) -> bool:
    return any(name in procedures or name.replace(separator, ".") in procedures for name in segment.split(","))


def _resolved(path: bytes) -> bytes:
    """Return `path` decoded, in lower case, without empty segments and dots, as the laxest server would see it."""
    segments: list[bytes] = []
    for segment in unquote_to_bytes(path).replace(b"\\", b"/").lower().split(b"/"):
        if segment == b"..":
            del segments[-1:]
        elif segment not in {b"", b"."}:
            segments.append(segment)
    return b"/" + b"".join(each + b"/" for each in segments)
