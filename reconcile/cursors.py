"""Page edges: how to notice what a cursor steps over. Pure.

A list that continues with `updated < cursor` skips every entity that shares the last one's timestamp. Asking with a
cursor moved back by one unit repeats the edge instead of cutting at it; whether that is what happened shows in the
answer, for then it begins with entities already seen.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum

from shadow.json import Json


class Edge(Enum):
    """Which way a cursor has to be moved to repeat the edge."""

    UP = 1
    """Newest first: one unit later."""
    DOWN = -1
    """Oldest first: one unit earlier."""
    NONE = 0
    """The cursor cannot be moved, or moving it does not repeat anything: an offset, an opaque token, an id."""


def moved(cursor: Json, edge: Edge) -> Json | None:
    """Return the cursor moved by one unit (a number by 1, an ISO time by 1 ms), or None if it cannot be."""
    if edge is Edge.NONE or isinstance(cursor, bool):
        return None
    if isinstance(cursor, int | float):
        return cursor + edge.value
    if isinstance(cursor, str):
        return _moved_time(cursor, edge)
    return None


def _moved_time(cursor: str, edge: Edge) -> str | None:
    try:
        moment = datetime.fromisoformat(cursor)
    except ValueError:
        return None
    if len(cursor) < len("2026-01-01T00:00"):
        return None
    later = moment + timedelta(milliseconds=edge.value)
    text = later.isoformat(sep=cursor[10], timespec="milliseconds")
    return text.replace("+00:00", "Z") if cursor.endswith("Z") else text
