"""What an event looks like to a subscriber, whatever carries it. Secrets are masked here, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from proxy.trpc.sse import line_event
from proxy.trpc.transformers import NONE, Transformer
from shadow import json
from shadow.events import Cursor, Draft
from shadow.json import Json
from shadow.secrets import mask
from shadow.tail import Entry


def stored_event(draft: Draft, position: int | None) -> dict[str, Json]:
    """Return an event in the shape that tRPC subscribers know; an ephemeral one (no position) has no cursor."""
    return {
        "id": draft.id,
        "cursor": None if position is None else {"timestamp": draft.time, "sequence": position},
        "channel": draft.channel,
        "type": draft.type,
        "timestamp": draft.time,
        "payload": {**_payload(draft), "type": draft.type},
    }


def cloud_event(draft: Draft, position: int | None, epoch: str) -> dict[str, Json]:
    """Return an event as CloudEvents 1.0 has it, in structured mode; `cursor` and `sequence` are extensions.

    `sequence` sorts as text, as that extension asks; an ephemeral event has neither.
    """
    event: dict[str, Json] = {
        "specversion": "1.0",
        "id": draft.id,
        "source": f"urn:changeover:{epoch}",
        "type": draft.type,
        "subject": draft.channel,
        "time": _timestamp(draft.time),
        "datacontenttype": "application/json",
        "data": _payload(draft),
    }
    if position is not None:
        event |= {"cursor": str(Cursor(epoch, position)), "sequence": f"{position:019d}"}
    return event


def _payload(draft: Draft) -> dict[str, Json]:
    masked = mask(draft.data)
    return masked if isinstance(masked, dict) else {"value": masked}


def _timestamp(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Format(Protocol):
    """How one event is written; equal names mean equal bytes, so what is written once serves every reader."""

    @property
    def name(self) -> str:
        """What tells this format from others."""

    @property
    def joined(self) -> bool:
        """Whether several events may leave as one piece."""

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event; `last` is the cursor of the stored event that the reader was given before it."""


def written(shape: Format, entry: Entry, last: Cursor) -> bytes:
    """Return an event's bytes, made once for all readers of the same format."""
    key = shape.name if entry.position is not None else f"{shape.name} {last}"
    found = entry.encodings.get(key)
    if found is None:
        found = entry.encodings[key] = shape.write(entry, last)
    return found


class SseStored:
    """Stored events over Server-Sent Events."""

    joined = True
    name = "sse stored"

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event; an ephemeral one has no id, so that the client's stays where it is."""
        return _with_id(self._epoch, entry, stored_event(entry.draft, entry.position))


class SseTracked:
    """Stored events over Server-Sent Events as the tracked items of a tRPC subscription."""

    joined = True

    def __init__(self, epoch: str, transformer: Transformer = NONE) -> None:
        self.name = f"sse tracked {transformer.name}"
        self._epoch = epoch
        self._transformer = transformer

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event; an ephemeral one repeats the id before it, without which it would be no tracked item."""
        wire = self._transformer.encode(stored_event(entry.draft, entry.position))
        cursor = str(last if entry.position is None else Cursor(self._epoch, entry.position))
        return f"id: {cursor}\n".encode() + line_event(json.encode(wire))


class SseCloud:
    """CloudEvents over Server-Sent Events."""

    joined = True
    name = "sse cloudevents"

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event; an ephemeral one has no id, so that the client's stays where it is."""
        return _with_id(self._epoch, entry, cloud_event(entry.draft, entry.position, self._epoch))


class SocketStored:
    """Stored events as JSON messages of a plain WebSocket."""

    joined = False
    name = "socket stored"

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event beside its cursor."""
        cursor = None if entry.position is None else str(Cursor(self._epoch, entry.position))
        return json.encode({"kind": "event", "cursor": cursor, "event": stored_event(entry.draft, entry.position)})


class SocketCloud:
    """CloudEvents as JSON messages of a plain WebSocket."""

    joined = False
    name = "socket cloudevents"

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event beside its cursor."""
        cursor = None if entry.position is None else str(Cursor(self._epoch, entry.position))
        event = cloud_event(entry.draft, entry.position, self._epoch)
        return json.encode({"kind": "event", "cursor": cursor, "event": event})


class SocketTracked:
    """The `result` of a tRPC subscription's message over WebSocket; its id is the reader's own and goes around it."""

    joined = False

    def __init__(self, epoch: str, transformer: Transformer = NONE) -> None:
        self.name = f"socket tracked {transformer.name}"
        self._epoch = epoch
        self._transformer = transformer

    def write(self, entry: Entry, last: Cursor) -> bytes:
        """Write an event as a tracked item; an ephemeral one repeats the id of the item before it."""
        cursor = str(last if entry.position is None else Cursor(self._epoch, entry.position))
        item = self._transformer.encode({"id": cursor, "data": stored_event(entry.draft, entry.position)})
        return json.encode({"type": "data", "id": cursor, "data": item})


def _with_id(epoch: str, entry: Entry, wire: Json) -> bytes:
    place = b"" if entry.position is None else f"id: {Cursor(epoch, entry.position)}\n".encode()
    return place + line_event(json.encode(wire))
