"""Server-sent events as tRPC subscriptions use them.

Reading follows the HTML standard's parser. Writing sends what the stock httpSubscriptionLink needs: a `data:` field on
every event, pings and returns too, and ids that can be header values.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

import msgspec

from proxy.trpc import jsontext
from proxy.trpc.envelopes import Failure, Unknown, failure
from proxy.trpc.errors import error_shape
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.transformers import NONE, Transformer
from proxy.trpc.values import UNDEFINED, TransformerError, Undefined, Value
from shadow import json
from shadow.json import Json

_LINE_END = re.compile(rb"\r\n?|\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_EVENT = 16 * 1024 * 1024


class SseEvent(msgspec.Struct, frozen=True):
    """One event, with the fields that it came with itself: an id of None leaves the last one in force."""

    event: str
    """`message` when the event has no name."""
    data: str
    id: str | None = None
    retry: int | None = None

    def __repr__(self) -> str:
        return f"SseEvent({self.event!r}, …)"  # data may hold secrets


class SseDecoder:
    """Reads a stream of events cut anywhere; never raises.

    An event without `data:` is none, an event that the stream's end cuts off is none, and one of more than 16 MiB is
    passed over.
    """

    def __init__(self) -> None:
        self._unread: list[bytes] = []
        self._size = 0
        self._first_line = True
        self._after_return = False
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next bytes; returns the events that they complete."""
        if not data:
            return []
        events: list[SseEvent] = []
        if self._after_return:
            data = data.removeprefix(b"\n")  # the second half of a CRLF cut in two
            self._after_return = False
        start = 0
        for end in _LINE_END.finditer(data):
            self._keep(data[start : end.start()])
            start = end.end()
            if (event := self._take_line()) is not None:
                events.append(event)
        self._after_return = data.endswith(b"\r")
        self._keep(data[start:])
        return events

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if data and self._size <= _LONGEST_EVENT:
            self._unread.append(data)
        elif data and not self._unread:
            self._unread.append(data[:1])  # what is left out must not look like a blank line

    def _take_line(self) -> SseEvent | None:
        line = b"".join(self._unread)
        self._unread.clear()
        if self._first_line:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._first_line = False
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 16:
            self._retry = int(value)

    def _dispatch(self) -> SseEvent | None:
        event = None
        if self._data and self._size <= _LONGEST_EVENT:
            event = SseEvent(self._event or "message", "\n".join(self._data), self._id, self._retry)
        self._data, self._event, self._id, self._retry, self._size = [], "", None, None, 0
        return event


class Item(msgspec.Struct, frozen=True):
    """A value that a subscription yielded, with its id when it is tracked."""

    data: Json | Undefined
    id: str | None = None

    def __repr__(self) -> str:
        return f"Item(…, id={self.id!r})"


class Returned(msgspec.Struct, frozen=True):
    """The subscription ended by itself: the client does not come back."""


SubscriptionMessage: TypeAlias = Item | Returned | Failure | Unknown
"""What an event says; Unknown for data that cannot be read."""


def read_event(event: SseEvent, transformer: Transformer = NONE) -> SubscriptionMessage | None:
    """Return what an event of a subscription says; None for pings, `connected` and names unknown to the client."""
    if event.event == "return":
        return Returned()
    if event.event not in {"message", "serialized-error"}:
        return None
    if event.data == "undefined":
        return Item(UNDEFINED, event.id or None)
    try:
        value = transformer.plain(jsontext.parse(event.data))
    except (NotJsonError, TransformerError) as error:
        return Unknown(f"the event's data cannot be read: {error}")
    return failure(value, 200) if event.event == "serialized-error" else Item(value, event.id or None)


def encode_event(
    data: str, *, event: str | None = None, event_id: str | None = None, retry: int | None = None
) -> bytes:
    """Write one event; raises ValueError for a name or an id that would break the stream or the client.

    An id must be printable ASCII: clients send it back as a header, where anything else throws. `retry` is in
    milliseconds.
    """
    lines = [] if retry is None else [f"retry: {retry}"]
    if event is not None:
        if not event.isprintable():
            raise ValueError("an event's name is one printable line")
        lines.append(f"event: {event}")
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    if event_id is not None:
        if not (event_id and event_id.isascii() and event_id.isprintable()):
            raise ValueError("an event's id is a line of printable ASCII")
        lines.append(f"id: {event_id}")
    return ("\n".join(lines) + "\n\n").encode()


def line_event(data: bytes) -> bytes:
    """Write one event without a name whose data is a single line of UTF-8, which encoded JSON always is."""
    return b"data: %b\n\n" % data


PING: Final = encode_event("", event="ping")
"""Keeps the connection; unlike a comment, it also resets the client's inactivity timer."""
RETURN: Final = encode_event("", event="return")
"""Ends the subscription for good; left out, the client comes back and resumes."""


def connected(options: dict[str, Json] | None = None) -> bytes:
    """Write the event that makes the client say that it started; `options` are the client's own, never transformed."""
    return encode_event(json.encode(options or {}).decode(), event="connected")


def item(
    value: Value, *, event_id: str | None = None, transformer: Transformer = NONE, retry: int | None = None
) -> bytes:
    """Write a value, tracked when it has an id; undefined becomes null. Raises ValueError, `TransformerError`."""
    return encode_event(_text(value, transformer), event_id=event_id, retry=retry)


def serialized_error(
    code: str, message: str, *, transformer: Transformer = NONE, path: str | None = None, retry: int | None = None
) -> bytes:
    """Write the error that ends a subscription, under HTTP status 200.

    After INTERNAL_SERVER_ERROR and its kin the stock client comes back, `retry` milliseconds later; after any other
    code, or another status, it never does.
    """
    shape = error_shape(code, message, path=path)
    return encode_event(_text(shape, transformer), event="serialized-error", retry=retry)


def _text(value: Value, transformer: Transformer) -> str:
    wire = transformer.encode(value)
    return json.encode(None if wire is UNDEFINED else wire).decode()
