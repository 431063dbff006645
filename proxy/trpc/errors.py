"""tRPC's error codes and the error bodies that stock clients show."""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.trpc.transformers import NONE, Transformer
from shadow import json
from shadow.json import Json


class ErrorCode(NamedTuple):
    """One row of tRPC's error table."""

    number: int
    """The JSON-RPC number in `error.code`; -32603 is shared by five codes."""
    status: int
    """The HTTP status."""


ERRORS: Final = {
    "PARSE_ERROR": ErrorCode(-32700, 400),
    "BAD_REQUEST": ErrorCode(-32600, 400),
    "INTERNAL_SERVER_ERROR": ErrorCode(-32603, 500),
    "NOT_IMPLEMENTED": ErrorCode(-32603, 501),
    "BAD_GATEWAY": ErrorCode(-32603, 502),
    "SERVICE_UNAVAILABLE": ErrorCode(-32603, 503),
    "GATEWAY_TIMEOUT": ErrorCode(-32603, 504),
    "UNAUTHORIZED": ErrorCode(-32001, 401),
    "PAYMENT_REQUIRED": ErrorCode(-32002, 402),
    "FORBIDDEN": ErrorCode(-32003, 403),
    "NOT_FOUND": ErrorCode(-32004, 404),
    "METHOD_NOT_SUPPORTED": ErrorCode(-32005, 405),
    "TIMEOUT": ErrorCode(-32008, 408),
    "CONFLICT": ErrorCode(-32009, 409),
    "PRECONDITION_FAILED": ErrorCode(-32012, 412),
    "PAYLOAD_TOO_LARGE": ErrorCode(-32013, 413),
    "UNSUPPORTED_MEDIA_TYPE": ErrorCode(-32015, 415),
    "UNPROCESSABLE_CONTENT": ErrorCode(-32022, 422),
    "PRECONDITION_REQUIRED": ErrorCode(-32028, 428),
    "TOO_MANY_REQUESTS": ErrorCode(-32029, 429),
    "CLIENT_CLOSED_REQUEST": ErrorCode(-32099, 499),
}
"""The codes of v10 and v11 by name."""

CODE_OF_NUMBER: Final = {row.number: code for code, row in reversed(ERRORS.items())}
"""The code that a JSON-RPC number stands for; -32603 alone reads as INTERNAL_SERVER_ERROR."""


def error_shape(code: str, message: str, *, path: str | None = None) -> dict[str, Json]:
    """Return the value of `error` in an envelope, before any transformer; `code` is a key of ERRORS."""
    number, status = ERRORS[code]
    data: dict[str, Json] = {"code": code, "httpStatus": status}
    if path is not None:
        data["path"] = path
    return {"message": message, "code": number, "data": data}


def error_body(
    code: str, message: str, *, transformer: Transformer = NONE, path: str | None = None
) -> tuple[int, bytes]:
    """Return the HTTP status and the JSON body of an error made by the proxy.

    It is one object, which stock clients of v10 and v11 show as the error of each call of a batch, plain or streamed.
    """
    shape = error_shape(code, message, path=path)
    return ERRORS[code].status, json.encode({"error": transformer.encode(shape)})
