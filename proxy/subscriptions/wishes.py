"""What a subscriber asks for, and where in the log that begins: decisions without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from shadow.events import Cursor
from shadow.json import Json

MOST_PATTERNS = 64
LONGEST_PATTERN = 512
MOST_REPLAYED = 10_000
"""Events that a subscriber may ask to see again by their number; a cursor has no such bound."""


class WishRefused(Exception):
    """What the subscriber asks for cannot be understood; the message says what to send instead."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Channels by patterns, of these the types named (None: all), and where to begin.

    `after` is a cursor, or a bare position, from which to go on; without one, `last` events are shown again.
    """

    patterns: tuple[str, ...]
    types: frozenset[str] | None = None
    after: Cursor | int | None = None
    last: int = 0


@dataclass(frozen=True, slots=True)
class After:
    """Begin with what comes after a position."""

    position: int


@dataclass(frozen=True, slots=True)
class Last:
    """Begin with the last events that there are."""

    count: int


class Why(StrEnum):
    """Why a subscriber cannot go on from its cursor."""

    FOREIGN = "foreign"
    """It is of another log."""
    AHEAD = "ahead"
    """It lies ahead of this log: the log was put back to an older copy."""
    DROPPED = "dropped"
    """Some of what comes after it is kept no longer."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The subscriber has to load the state again: it goes on from the log's head."""

    why: Why


Beginning: TypeAlias = After | Last | Reset


def begin(wish: Wish, head: Cursor) -> Beginning:
    """Decide where a subscriber begins; whether what comes after is kept shows when it is read."""
    if wish.after is None:
        return Last(wish.last) if wish.last else After(head.position)
    if isinstance(wish.after, Cursor) and wish.after.epoch != head.epoch:
        return Reset(Why.FOREIGN)
    position = wish.after.position if isinstance(wish.after, Cursor) else wish.after
    if position > head.position:
        return Reset(Why.AHEAD)
    return After(position)


def read_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """Check patterns, `*` being all channels; raises `WishRefused`."""
    found = tuple(dict.fromkeys(patterns))
    if not found:
        return ("*",)
    if len(found) > MOST_PATTERNS:
        raise WishRefused(f"one subscription may name {MOST_PATTERNS} channels; use a pattern, as in session:*")
    for pattern in found:
        if not pattern or len(pattern) > LONGEST_PATTERN or not pattern.isprintable():
            raise WishRefused("a channel is named by 1 to 512 printable characters, as in session:42 or session:*")
        if "*" in pattern[:-1]:
            raise WishRefused(f"a pattern has its * at the end, as in session:*; this has one before: {pattern}")
    return found


def read_cursor(text: str) -> Cursor | int | None:
    """Read a cursor, or a bare position; empty text is none. Raises `WishRefused`."""
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise WishRefused(str(error)) from None


def read_count(value: Json) -> int:
    """Read how many events are to be shown again; raises `WishRefused`."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_REPLAYED:
        raise WishRefused(f"the number of events to show again is a whole number up to {MOST_REPLAYED}")
    return value


def wish_of_input(given: Json, *, patterns: tuple[str, ...] | None = None, last_event_id: str | None = None) -> Wish:
    """Read the input of a tRPC subscription; `last_event_id` is what the client resumes with, and goes first.

    Raises `WishRefused`.
    """
    fields = {} if given is None else given
    if not isinstance(fields, dict):
        raise WishRefused("the input is an object, as in {pattern: 'session:*'}")
    if patterns is None:
        patterns = read_patterns(_named(fields))
    resumed = last_event_id or fields.get("lastEventId")
    after = _cursor(resumed) if resumed is not None else _cursor(fields.get("fromCursor"))
    last = fields.get("replayLast")
    return Wish(patterns, _types(fields.get("types")), after, 0 if last is None else read_count(last))


def _named(fields: dict[str, Json]) -> list[str]:
    named: list[str] = []
    for key in ("pattern", "channel", "channels"):
        value = fields.get(key)
        if value is None:
            continue
        values = value if key == "channels" and isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise WishRefused(f"{key} names channels as text, as in {{pattern: 'session:*'}}")
        named += values
    return named


def _cursor(value: Json) -> Cursor | int | None:
    """Read a cursor in any of the shapes that clients hold: an item's id, its `cursor`, or a position."""
    if value is None:
        return None
    if isinstance(value, dict):
        value = value.get("sequence")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        return read_cursor(value)
    raise WishRefused("a cursor is the id of an item, or the `cursor` of an event: {timestamp, sequence}")


def _types(value: Json) -> frozenset[str] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise WishRefused("types is a list of event types, as in ['session-created']")
    return frozenset(value)
