"""Events and what names them: channels, patterns, cursors, entity keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import msgspec

from shadow import json
from shadow.json import Json

GENESIS = "0" * 64
"""The hash that stands before the first event of every log."""


RETENTION = "retention"
"""The cause of an event whose data were dropped because they had been kept for long enough: its data are None."""


class Effect(StrEnum):
    """What an event does to the state of its entity."""

    CREATE = "create"
    """The entity comes into being with exactly the changed fields."""
    PUT = "put"
    """The entity's fields become exactly the changed fields, whether it was there or not."""
    PATCH = "patch"
    """The changed fields replace those of the same name; the others stay."""
    DELETE = "delete"
    """The entity is gone."""
    NONE = "none"
    """The event says something but changes no state."""


class EntityKey(NamedTuple):
    """One entity: its kind and its key, as in ("session", "s1"). Sorts, so locks have an order."""

    entity: str
    key: str


class Draft(msgspec.Struct, frozen=True):
    """An event before the log has given it a place.

    `id` is unique in a log: appending the same id again appends nothing. `time` is in milliseconds since
    the Unix epoch. `data` is what subscribers see; `change` is what the fold puts into the entity's state
    (None for DELETE and NONE). `cause` names what led to the event: `intent:42`, `import`, `publish`, `stage`.
    """

    id: str
    channel: str
    type: str
    time: int
    data: Json
    entity: EntityKey | None = None
    effect: Effect = Effect.NONE
    change: dict[str, Json] | None = None
    actor: str | None = None
    cause: str | None = None


class Event(msgspec.Struct, frozen=True):
    """One immutable fact in the log, at a dense, gap-free position counted from 1."""

    position: int
    draft: Draft
    hash: str
    """SHA-256 over the previous event's hash, the position and the draft, in hex."""


def chain(previous: str, position: int, draft: Draft) -> str:
    """Return the hash of the event that `draft` becomes at `position` after the event hashed `previous`."""
    body = json.encode(
        (
            previous,
            position,
            draft.id,
            draft.channel,
            draft.type,
            draft.time,
            draft.data,
            draft.entity,
            draft.effect,
            draft.change,
            draft.actor,
            draft.cause,
        )
    )
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one log: the log's epoch (a random name given at its birth) and a position.

    A cursor of another epoch is never served: positions of two logs cannot be compared.
    """

    epoch: str
    position: int

    def __str__(self) -> str:
        """Return the ASCII form that clients keep, as in `k3f9a1-42`."""
        return f"{self.epoch}-{self.position}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` wrote; raises ValueError for anything else."""
        epoch, dash, position = text.rpartition("-")
        if not (dash and epoch and position.isascii() and position.isdigit()):
            raise ValueError(f"not a cursor: {text!r} (expected EPOCH-POSITION, as in k3f9a1-42)")
        return cls(epoch, int(position))


def matches(pattern: str, channel: str) -> bool:
    """Tell whether `channel` is named by `pattern`: equal to it, or beginning with what stands before its final `*`."""
    if pattern.endswith("*"):
        return channel.startswith(pattern[:-1])
    return channel == pattern
