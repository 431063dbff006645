"""The input of each call."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.targets import Calls
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import UNDEFINED, TransformerError, Undefined
from shadow.json import Json


class Malformed(msgspec.Struct, frozen=True):
    """The input cannot be read, though v11 may run the call all the same; `reason` quotes nothing of it."""

    reason: str


Input: TypeAlias = Json | Undefined | Malformed


class BodyKind(Enum):
    """How a request's body is to be taken."""

    JSON = "json"
    OPAQUE = "opaque"
    """Form data or bytes: streamed through, described in the event by content type and size."""


def body_kind(content_type: bytes | None) -> BodyKind:
    """Return how tRPC takes a body of this content type; what v11 refuses and v10 reads as JSON counts as JSON."""
    media_type = (content_type or b"").lstrip().lower()
    opaque = media_type.startswith((b"multipart/form-data", b"application/octet-stream"))
    return BodyKind.OPAQUE if opaque else BodyKind.JSON


def decode_inputs(calls: Calls, method: str, body: bytes, transformer: Transformer = NONE) -> tuple[Input, ...]:
    """Read the input of each call, in the order of `calls.paths`; never raises.

    GET takes its input from the query, every other method from the body, which must be JSON (see `body_kind`).
    """
    text: bytes | str = (calls.query_input or "") if method == "GET" else body
    if not text:
        return (UNDEFINED,) * len(calls.paths)
    try:
        wire = jsontext.parse(text)
    except NotJsonError as error:
        return (Malformed(str(error)),) * len(calls.paths)
    if not calls.batch:
        return (_decode(wire, transformer),)
    if type(wire) is not dict:
        return (Malformed("the inputs of a batch are an object keyed by index"),) * len(calls.paths)
    return tuple(
        [
            _decode(wire[key], transformer) if (key := str(index)) in wire else UNDEFINED
            for index in range(len(calls.paths))
        ]
    )


def _decode(wire: Json, transformer: Transformer) -> Input:
    if transformer is NONE:
        return wire
    try:
        return transformer.plain(wire)
    except TransformerError as error:
        return Malformed(str(error))
