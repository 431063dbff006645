"""JSON text read as the JavaScript on either side reads it, and never deeper than we can walk."""

from __future__ import annotations

import json as stdlib_json
import math
import re
from typing import NoReturn

import msgspec

from shadow.json import Json

MAX_DEPTH = 200
"""How deep arrays and objects may nest. V8 has no such limit; every walk of ours over a value has one."""

_decoder = msgspec.json.Decoder()
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_INTEGER = 400  # digits; more is beyond a double, which JavaScript reads as Infinity


class NotJsonError(Exception):
    """The text is not JSON, or holds what we cannot; the message never quotes the text."""


def parse(text: bytes | str) -> Json:
    """Read JSON text; raises `NotJsonError`.

    As in JavaScript, the last of equal keys wins, bytes that are no UTF-8 become U+FFFD and a byte order mark is
    skipped. A lone surrogate, which no UTF-8 text can carry on, becomes U+FFFD too. Integers stay exact.
    """
    try:
        value = _decoder.decode(text)
    except (ValueError, RecursionError):
        value = _parse_leniently(text)
    if not is_shallow(text) and _is_deep(value):
        raise NotJsonError(f"it nests deeper than {MAX_DEPTH} levels")
    return value


def is_shallow(text: bytes | str) -> bool:
    """Tell cheaply that `text` cannot nest too deeply; False says nothing."""
    if isinstance(text, bytes):
        return text.count(b"{") + text.count(b"[") <= MAX_DEPTH
    return text.count("{") + text.count("[") <= MAX_DEPTH


def _is_deep(value: Json) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return False
    return True


def _parse_leniently(text: bytes | str) -> Json:
    """Read what msgspec refuses and JavaScript does not."""
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig", "replace")
    try:
        value = stdlib_json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_no_constant)
        written = stdlib_json.dumps(value, ensure_ascii=False)
        if _LONE_SURROGATE.search(written):
            value = stdlib_json.loads(_LONE_SURROGATE.sub("\ufffd", written))
    except RecursionError:
        raise NotJsonError(f"it nests deeper than {MAX_DEPTH} levels") from None
    except ValueError:
        # The decoder's own message may quote the text, so it is dropped.
        raise NotJsonError("the text is not JSON") from None
    return value


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise NotJsonError("it holds a number beyond any double")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotJsonError("it holds a number beyond any double")
    return number


def _no_constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} is not JSON")
