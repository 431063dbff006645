"""The transformers of `proxy.trpc` as the reconciler asks for them: the two rooms do not know each other."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.trpc.transformers import TRANSFORMERS, UNDEFINED, Transformer, TransformerError
from reconcile.answers import Wire
from shadow.contract import Contract
from shadow.json import Json


@dataclass(frozen=True, slots=True)
class Translated:
    """A transformer's values as the JSON that stands for them in events."""

    transformer: Transformer

    def decode(self, wire: Json) -> Json:
        """Return the JSON that stands for a value, None for undefined; raises ValueError."""
        try:
            value = self.transformer.plain(wire)
        except TransformerError as error:
            raise ValueError(str(error)) from None
        return None if value is UNDEFINED else value

    def encode(self, value: Json) -> Json:
        """Return what goes on the wire."""
        return self.transformer.encode(value)


def wire_of(contract: Contract) -> Wire:
    """Return how the contract's legacy writes what JSON cannot hold."""
    return Translated(TRANSFORMERS[contract.legacy.transformer])
