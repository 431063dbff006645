"""Named steps of the write path at which a test can have this process killed.

Nothing happens unless the environment variable CHANGEOVER_FAULT names a step when the process starts:
`CHANGEOVER_FAULT=before-commit-settle` kills at the first arrival, `before-commit-settle:7` at the seventh.
A kill is SIGKILL to the own process: no cleanup runs, exactly as in a crash.
"""

from __future__ import annotations

import itertools
import os
import signal
from enum import StrEnum


class Point(StrEnum):
    """Every step at which a crash is tested; a new step goes here and so into the crash tests."""

    LOCKED = "locked"
    """A mutation has its entities' locks; its intents are not asked for yet."""
    INTENDED = "intended"
    """Its intents are durable; nothing is forwarded."""
    FORWARDED = "forwarded"
    """The legacy's whole answer is here; nothing was made of it."""
    ANSWERED = "answered"
    """Outcomes are known, or known to be in doubt; nothing is recorded."""
    SETTLED = "settled"
    """Outcomes and events are durable; the client has no answer."""
    TOLD = "told"
    """The client has its answer."""
    SPOOLED = "spooled"
    """A call is in the spool instead of the log; nothing is forwarded."""
    SPOOL_ENDED = "spool-ended"
    """What became of it is in the spool; the client has no answer."""
    SHIPPED = "shipped"
    """The log has a spooled call; the spool does not say so yet."""
    DOUBT_RIPE = "doubt-ripe"
    """A doubt is about to be looked into."""
    DOUBT_SEEN = "doubt-seen"
    """The legacy was read for a doubt; nothing is decided."""
    DOUBT_SETTLED = "doubt-settled"
    """A doubt's outcome is durable; its locks are still held."""
    BEFORE_BEGIN = "before-begin"
    """Intents are planned, nothing is written."""
    INSIDE_BEGIN = "inside-begin"
    """Intents are written and not yet committed."""
    AFTER_BEGIN = "after-begin"
    """Intents are committed; nobody has been told."""
    BEFORE_SETTLE = "before-settle"
    """Events are planned, nothing is written."""
    EVENTS_WRITTEN = "events-written"
    """Events are written; states and outcomes are not."""
    INSIDE_SETTLE = "inside-settle"
    """Everything is written and not yet committed."""
    AFTER_SETTLE = "after-settle"
    """Events, states and outcomes are committed; nobody has been told."""


POINTS = tuple(Point)


def _armed(setting: str) -> tuple[Point, int] | None:
    if not setting:
        return None
    name, _, count = setting.partition(":")
    return Point(name), int(count or 1)


_target = _armed(os.environ.get("CHANGEOVER_FAULT", ""))
_arrivals = itertools.count(1)


def arm(setting: str) -> None:
    """Arm this process as the environment variable would have at its start; for a process that was forked."""
    global _target  # noqa: PLW0603 - a process has one fate
    _target = _armed(setting)


def reach(point: Point) -> None:
    """Say that the write path has come to `point`; kills this process if it is armed for it."""
    if _target is not None and point is _target[0] and next(_arrivals) == _target[1]:
        os.kill(os.getpid(), signal.SIGKILL)
