"""What a tRPC query's answer says, for one call that is not batched: pure.

The proxy has the whole wire in `proxy.trpc`; the reconciler must not know the proxy, and needs of the wire only this
corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from shadow import json
from shadow.json import Json

NO_PROCEDURE: Final = ("No procedure found on path", 'No "query"-procedure on path')
"""How tRPC 11 and 10 begin the message of a NOT_FOUND that means the router and not the entity."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The query's output; undefined is None."""

    output: Json


@dataclass(frozen=True, slots=True)
class Refused:
    """The legacy answered with an error that asking again would not change."""

    error: str
    unknown_procedure: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """No usable answer; asking again later may help."""

    error: str


Answer: TypeAlias = Answered | Refused | Busy


def read_answer(status: int, body: bytes, transformer: str = "none") -> Answer:
    """Read the answer to a single query. The envelope decides, not the status: that is how tRPC clients read it."""
    try:
        envelope = json.decode(body)
    except json.JsonError:
        envelope = None
    if isinstance(envelope, dict):
        if isinstance(envelope.get("result"), dict):
            return Answered(decoded(envelope["result"].get("data"), transformer))
        if "error" in envelope:
            return _refusal(status, decoded(envelope["error"], transformer))
    return Busy(f"HTTP {status}") if status >= 500 or status in {408, 425, 429} else Refused(f"HTTP {status}")


def _refusal(status: int, error: Json) -> Answer:
    shape = error if isinstance(error, dict) else {}
    data = shape.get("data")
    name = data.get("code") if isinstance(data, dict) else None
    name = name if isinstance(name, str) else f"HTTP {status}"
    if status >= 500 or status in {408, 425, 429}:
        return Busy(name)
    message = shape.get("message")
    return Refused(name, unknown_procedure=isinstance(message, str) and message.startswith(NO_PROCEDURE))


def encoded(value: Json, transformer: str) -> Json:
    """Put a query's input into the form that the legacy's transformer reads."""
    return {"json": value} if transformer == "superjson" else value


def decoded(value: Json, transformer: str) -> Json:
    """Take a value out of the form that the legacy's transformer writes.

    Types that JSON lacks stay what they are on the wire (a Date is its ISO text), as in the events; what superjson
    marks as undefined is left out.
    """
    if transformer != "superjson" or not isinstance(value, dict) or "json" not in value:
        return value
    plain = value["json"]
    meta = value.get("meta")
    marks = meta.get("values") if isinstance(meta, dict) else None
    if marks == ["undefined"]:
        return None
    if isinstance(marks, dict):
        for path, mark in marks.items():
            if mark == ["undefined"]:
                _remove(plain, _steps(path))
    return plain


def _steps(path: str) -> list[str]:
    steps, escaped = [""], False
    for sign in path:
        if escaped or sign not in "\\.":
            steps[-1] += sign
            escaped = False
        elif sign == "\\":
            escaped = True
        else:
            steps.append("")
    return steps


def _remove(value: Json, steps: list[str]) -> None:
    for step in steps[:-1]:
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return
    if isinstance(value, dict):
        value.pop(steps[-1], None)
