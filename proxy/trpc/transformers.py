"""The data transformers a tRPC router may be set up with."""

from __future__ import annotations

from typing import Final, Protocol

from proxy.trpc.devalue import Devalue
from proxy.trpc.superjson import SuperJson
from proxy.trpc.values import UNDEFINED, TransformerError, Undefined, Value, plain
from shadow.json import Json

__all__ = [
    "DEVALUE",
    "NONE",
    "SUPERJSON",
    "TRANSFORMERS",
    "UNDEFINED",
    "Transformer",
    "TransformerError",
    "Undefined",
    "Value",
]


class Transformer(Protocol):
    """Turns values into what JSON can carry, and back."""

    @property
    def name(self) -> str:
        """What the contract calls it."""
        ...

    def decode(self, wire: Json) -> Value:
        """Return the whole value, as Python holds it (see `values.Value`); raises `TransformerError`."""
        ...

    def plain(self, wire: Json) -> Json | Undefined:
        """Return the JSON that stands for the value in events and rules; raises `TransformerError`."""
        ...

    def encode(self, value: Value) -> Json | Undefined:
        """Return what goes on the wire, UNDEFINED for nothing; raises `TransformerError`."""
        ...


class NoTransformer:
    """JSON as it is: nothing is copied or looked at on the way in."""

    name = "none"

    def decode(self, wire: Json) -> Value:
        """Return `wire` itself."""
        return wire

    def plain(self, wire: Json) -> Json | Undefined:
        """Return `wire` itself."""
        return wire

    def encode(self, value: Value) -> Json | Undefined:
        """Return what JSON.stringify would keep of `value`; raises `TransformerError`."""
        return plain(value)


NONE: Final[Transformer] = NoTransformer()
SUPERJSON: Final[Transformer] = SuperJson()
DEVALUE: Final[Transformer] = Devalue()

TRANSFORMERS: Final[dict[str, Transformer]] = {each.name: each for each in (NONE, SUPERJSON, DEVALUE)}
"""By the name that the contract uses."""
