"""Answers of the proxy's own, in tRPC's error shape, so that stock clients show them as an error of each call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.framing import Pairs
from proxy.trpc.errors import error_body
from proxy.trpc.transformers import Transformer

_CODES = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    409: "CONFLICT",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    502: "BAD_GATEWAY",
    503: "SERVICE_UNAVAILABLE",
    504: "GATEWAY_TIMEOUT",
}


@dataclass(frozen=True, slots=True)
class Refusals:
    """Shapes refusals for one API."""

    transformer: Transformer

    def __call__(self, scope: Mapping[str, Any], status: int, sentence: str) -> tuple[int, Pairs, bytes]:
        """Return the status, the headers and the body that tell a client `sentence`."""
        code = _CODES.get(status, "INTERNAL_SERVER_ERROR")
        status, body = error_body(code, sentence, transformer=self.transformer)
        return status, [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))], body
