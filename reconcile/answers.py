"""What a tRPC query's answer says, for one call that is not batched: pure.

The proxy has the whole wire in `proxy.trpc`; the reconciler must not know the proxy, and needs of the wire only this
corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

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


class Wire(Protocol):
    """How the legacy writes what JSON cannot hold; the front door hands in the one that the contract names."""

    def decode(self, wire: Json) -> Json:
        """Return the JSON that stands for a value in events; raises ValueError."""

    def encode(self, value: Json) -> Json:
        """Return what goes on the wire for a query's input."""


class PlainWire:
    """JSON as it is."""

    def decode(self, wire: Json) -> Json:
        """Return `wire` itself."""
        return wire

    def encode(self, value: Json) -> Json:
        """Return `value` itself."""
        return value


def read_answer(status: int, body: bytes, wire: Wire) -> Answer:
    """Read the answer to a single query. The envelope decides, not the status: that is how tRPC clients read it."""
    try:
        return _read(status, body, wire)
    except ValueError:
        return Refused("UNREADABLE")


def _read(status: int, body: bytes, wire: Wire) -> Answer:
    try:
        envelope = json.decode(body)
    except json.JsonError:
        envelope = None
    if isinstance(envelope, dict):
        if isinstance(envelope.get("result"), dict):
            data = envelope["result"].get("data")
            return Answered(None if data is None else wire.decode(data))
        if "error" in envelope:
            return _refusal(status, wire.decode(envelope["error"]))
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
