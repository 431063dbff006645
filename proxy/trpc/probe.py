"""What kind of procedure a path names, read from the answer to a PUT that runs nothing.

v11 refuses `PUT /trpc/<one path>` (content-type application/json, body `{}`) before any resolver, middleware or input
parser runs, and the refusal names the procedure's type. v10 refuses it without saying the type; there a POST that
succeeded was a mutation anyway.
"""

from __future__ import annotations

import re
from enum import Enum

from proxy.trpc import jsontext
from proxy.trpc.envelopes import Failure, decode_answer
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.sse import SseDecoder
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import TransformerError
from shadow.json import Json

PROBE_BODY = b"{}"


class Procedure(Enum):
    """What a probed path names."""

    QUERY = "query"
    MUTATION = "mutation"
    SUBSCRIPTION = "subscription"
    ABSENT = "absent"
    """No procedure has this name, as far as this deployment goes."""


_TYPE_NAMED = re.compile(r"Unsupported PUT-request to (query|mutation|subscription) procedure at path")


def read_probe(
    status: int, allow: bytes | None, content_type: bytes | None, body: bytes, transformer: Transformer = NONE
) -> Procedure | None:
    """Return what the answer to a PUT probe says; None when it says nothing, as v10's does.

    `allow` is the answer's Allow header, which speaks when an errorFormatter has rewritten the message.
    """
    if (content_type or b"").lower().startswith(b"text/event-stream"):
        events = SseDecoder().feed(body)
        errors = [event.data.encode() for event in events if event.event == "serialized-error"]
        return _named(errors[0], transformer) if errors else None
    (outcome,) = decode_answer(1, status, body, transformer)
    if not isinstance(outcome, Failure):
        return None
    if outcome.code == "NOT_FOUND":
        return Procedure.ABSENT
    if outcome.code != "METHOD_NOT_SUPPORTED":
        return None
    return _named(body, transformer) or _allowed(allow)


def _allowed(allow: bytes | None) -> Procedure | None:
    methods = {method.strip().upper() for method in (allow or b"").split(b",")}
    if b"GET" in methods:
        return Procedure.QUERY
    return Procedure.MUTATION if methods == {b"POST"} else None


def _named(text: bytes, transformer: Transformer) -> Procedure | None:
    try:
        value = jsontext.parse(text)
        shape = transformer.plain(value["error"] if isinstance(value, dict) and "error" in value else value)
    except (NotJsonError, TransformerError):
        return None
    found = _TYPE_NAMED.match(_message(shape))
    return Procedure(found[1]) if found else None


def _message(shape: Json) -> str:
    message = shape.get("message") if isinstance(shape, dict) else None
    return message if isinstance(message, str) else ""
