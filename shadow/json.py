"""JSON as this project reads and writes it: strict on the way in, deterministic on the way out."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Json: TypeAlias = Any
"""Whatever JSON can hold: None, bool, int, float, str, list[Json] or dict[str, Json]."""

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder()

JsonError = msgspec.DecodeError
"""Raised by `decode` for text that is not JSON; NaN and Infinity are not JSON."""


def encode(value: Json) -> bytes:
    """Encode with sorted keys and no spaces, so that equal values have equal bytes."""
    return _encoder.encode(value)


def decode(data: bytes | str) -> Json:
    """Decode strictly (RFC 8259); raises `JsonError`."""
    return _decoder.decode(data)
