"""The messages of tRPC's WebSocket protocol, v10 and v11: JSON in text frames, correlated by id within a connection."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, TypeAlias

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.envelopes import CallOutcome, Success, read_envelope, success
from proxy.trpc.errors import error_shape
from proxy.trpc.inputs import Input, Malformed
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import UNDEFINED, TransformerError, Value
from shadow import json
from shadow.json import Json

Id: TypeAlias = int | float | str | None
ProcedureType: TypeAlias = Literal["query", "mutation", "subscription"]
_PROCEDURE_TYPES = ("query", "mutation", "subscription")


class Request(msgspec.Struct, frozen=True):
    """A client calls a procedure; the server enforces that it is of this type."""

    id: Id
    type: ProcedureType
    path: str
    input: Input
    last_event_id: str | None = None

    def __repr__(self) -> str:
        return f"Request({self.id!r}, {self.type!r}, {self.path!r}, …)"  # inputs may hold secrets


class Stop(msgspec.Struct, frozen=True):
    """A client ends its subscription."""

    id: Id


class ConnectionParams(msgspec.Struct, frozen=True):
    """The first message on a connection opened with `?connectionParams=1`; holds credentials."""

    data: Json

    def __repr__(self) -> str:
        return "ConnectionParams(…)"


class KeepAlive(msgspec.Struct, frozen=True):
    """The bare text PING or PONG, which v11 sends either way."""

    text: str


class Unreadable(msgspec.Struct, frozen=True):
    """A message that this protocol does not know, or bytes of a custom encoder; `reason` quotes nothing of it."""

    reason: str


class Started(msgspec.Struct, frozen=True):
    """A subscription runs."""

    id: Id


class Stopped(msgspec.Struct, frozen=True):
    """A subscription ended."""

    id: Id


class Answer(msgspec.Struct, frozen=True):
    """The outcome of a query or mutation, or one item or the error of a subscription: the request's type tells."""

    id: Id
    outcome: CallOutcome
    event_id: str | None = None
    """The id of a tracked item."""


class Reconnect(msgspec.Struct, frozen=True):
    """The server asks the client to move to a new connection."""


ClientMessage: TypeAlias = Request | Stop | ConnectionParams | KeepAlive | Unreadable
ServerMessage: TypeAlias = Answer | Started | Stopped | Reconnect | KeepAlive | Unreadable


def parse_client_frame(frame: str | bytes, transformer: Transformer = NONE) -> tuple[ClientMessage, ...]:
    """Read a client's frame: one message, or the calls of one tick as an array; never raises."""
    read = _parse(frame)
    if isinstance(read, KeepAlive | Unreadable):
        return (read,)
    if isinstance(read, list):
        return tuple([_client_message(each, transformer) for each in read])
    return (_client_message(read, transformer),)


def parse_server_frame(frame: str | bytes, transformer: Transformer = NONE) -> ServerMessage:
    """Read a server's frame, always one message; never raises."""
    read = _parse(frame)
    return read if isinstance(read, KeepAlive | Unreadable) else _server_message(read, transformer)


def _parse(frame: str | bytes) -> KeepAlive | Unreadable | Json:
    if frame in {"PING", "PONG"}:
        return KeepAlive(str(frame))
    if isinstance(frame, bytes):
        return Unreadable("a binary frame, written by an encoder of the application's own")
    try:
        return jsontext.parse(frame)
    except NotJsonError:
        return Unreadable("the frame is not JSON")


def _client_message(message: Json, transformer: Transformer) -> ClientMessage:
    if type(message) is not dict:
        return Unreadable("the message is no object")
    method, identity = message.get("method"), _id(message)
    if method == "subscription.stop":
        return Stop(identity)
    if method == "connectionParams":
        return ConnectionParams(message.get("data"))
    params = message.get("params")
    if method not in _PROCEDURE_TYPES or type(params) is not dict or type(params.get("path")) is not str:
        return Unreadable("the message calls no procedure")
    last_event_id = params.get("lastEventId")
    return Request(
        identity,
        method,
        params["path"],
        _input(params, transformer),
        last_event_id if type(last_event_id) is str else None,
    )


def _id(message: dict[str, Json]) -> Id:
    identity = message.get("id")
    return identity if type(identity) in {int, float, str} else None


def _input(params: dict[str, Json], transformer: Transformer) -> Input:
    if "input" not in params:
        return UNDEFINED
    try:
        return transformer.plain(params["input"])
    except TransformerError as error:
        return Malformed(str(error))


def _server_message(message: Json, transformer: Transformer) -> ServerMessage:
    if type(message) is not dict:
        return Unreadable("the message is no object")
    if message.get("method") == "reconnect":
        return Reconnect()
    identity, result = _id(message), message.get("result")
    if "error" in message or type(result) is not dict:
        if "error" not in message and "result" not in message:
            return Unreadable("the message is no answer")
        return Answer(identity, read_envelope(message, 200, transformer))
    kind = result.get("type", "data")
    if kind == "started":
        return Started(identity)
    if kind == "stopped":
        return Stopped(identity)
    if kind != "data":
        return Unreadable("the message is of an unknown type")
    event_id = result.get("id")
    outcome = success(result["data"], transformer) if "data" in result else Success(UNDEFINED)
    return Answer(identity, outcome, event_id if type(event_id) is str else None)


class Correlation:
    """The calls of one connection that have no answer yet.

    Ids are the client's and need not be unique: calls with equal ids are answered oldest first, and while more than
    one is open their answers cannot be told apart for certain.
    """

    def __init__(self) -> None:
        self._open: dict[Id, deque[Request]] = {}

    def __bool__(self) -> bool:
        """Tell whether any call is open."""
        return bool(self._open)

    def sent(self, request: Request) -> None:
        """Note a query or mutation that went to the server."""
        self._open.setdefault(request.id, deque()).append(request)

    def ambiguous(self, identity: Id) -> bool:
        """Tell whether several open calls have this id."""
        return len(self._open.get(identity, ())) > 1

    def answered(self, identity: Id) -> Request | None:
        """Return the call that an answer with this id settles, and forget it; None for a subscription's."""
        waiting = self._open.get(identity)
        if waiting is None:
            return None
        request = waiting.popleft()
        if not waiting:
            del self._open[identity]
        return request

    def unanswered(self) -> tuple[Request, ...]:
        """Return the open calls, oldest first by id: when the connection closes their outcome is unknown."""
        return tuple(request for waiting in self._open.values() for request in waiting)


PING: Final = "PING"
PONG: Final = "PONG"
RECONNECT: Final = '{"id":null,"method":"reconnect"}'
"""Asks the client to open a new connection and move its subscriptions there."""


def started(identity: Id) -> str:
    """Write that a subscription runs."""
    return _write(identity, {"type": "started"})


def stopped(identity: Id) -> str:
    """Write that a subscription ended."""
    return _write(identity, {"type": "stopped"})


def result(identity: Id, value: Value, *, transformer: Transformer = NONE) -> str:
    """Write the output of a query or mutation, or an untracked item; raises `TransformerError`."""
    wire = transformer.encode(value)
    return _write(identity, {"type": "data"} if wire is UNDEFINED else {"type": "data", "data": wire})


def tracked(identity: Id, event_id: str, value: Value, *, transformer: Transformer = NONE) -> str:
    """Write a tracked item: its id stands beside it, bare, for the client's resumption; raises `TransformerError`."""
    wire = transformer.encode({"id": event_id, "data": value})
    return _write(identity, {"type": "data", "id": event_id, "data": wire})


def error(identity: Id, code: str, message: str, *, transformer: Transformer = NONE, path: str | None = None) -> str:
    """Write the error of a call or a subscription."""
    shape = transformer.encode(error_shape(code, message, path=path))
    return json.encode({"id": identity, "error": shape}).decode()


def _write(identity: Id, content: dict[str, Json]) -> str:
    return json.encode({"id": identity, "result": content}).decode()
