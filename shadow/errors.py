"""What all errors meant for a user have in common, and what can go wrong with a log.

Mendable
└── LogError
    ├── DatabaseRefused        the database cannot be used as it is; nothing was changed
    │   ├── DatabaseTooNew     a newer version of changeover made it
    │   ├── DatabaseTooOld     it must be migrated first, and this command only reads
    │   ├── DatabaseBusy       another process writes it
    │   └── DatabaseMissing    there is none, and this command does not make one
    ├── LogUnavailable         the command was not (or not known to be) committed; try again later
    ├── PositionConflict       an entity was not where the caller expected it
    ├── OutcomeRefused         an intent cannot go from its outcome to the one asked for
    ├── IntentUnknown          no intent has this id
    ├── KeyReused              an idempotency key came again while its answer is kept
    └── DraftRefused           an event or intent that no database can hold
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class Mendable(Exception):
    """An error whose message is a complete sentence for the person at the keyboard: what, where, what to do.

    `code` is the exit code of a command that ends with it: 1 a negative finding, 3 an error.
    """

    code: ClassVar[int] = 3


class LogError(Mendable):
    """Something about the log went wrong; the message says what to do."""


class DatabaseRefused(LogError):
    """The database cannot be used as it is; nothing in it was changed."""


class DatabaseTooNew(DatabaseRefused):
    """The database was made by a newer version of changeover."""


class DatabaseTooOld(DatabaseRefused):
    """The database has to be migrated before it can be read."""


class DatabaseBusy(DatabaseRefused):
    """Another process writes this log."""


class DatabaseMissing(DatabaseRefused):
    """There is no log to read."""


class Trouble(StrEnum):
    """Why a log cannot be written just now."""

    DISK_FULL = "disk_full"
    LOCKED = "locked"
    GONE = "gone"
    """The database or the way to it has vanished."""
    TAKEN = "taken"
    """Another process became the writer of this log."""
    CLOSED = "closed"
    """This process has closed the log."""


class LogUnavailable(LogError):
    """The log cannot be written just now; the writer recovers by itself when the database is back.

    `unknown` tells that the commit may have happened all the same: the database went away between the commit
    and its confirmation. Repeating a settlement, or an append of the same event ids, is then safe.
    """

    def __init__(self, trouble: Trouble, reason: str, *, unknown: bool = False) -> None:
        doubt = " (whether the last commit happened is not known)" if unknown else ""
        super().__init__(f"the log cannot be written: {trouble.value}: {reason}{doubt}")
        self.trouble = trouble
        self.reason = reason
        self.unknown = unknown


class PositionConflict(LogError):
    """An entity's last event is not the one that the caller had seen."""

    def __init__(self, name: str, expected: int, actual: int) -> None:
        super().__init__(f"{name} is at position {actual}, not at {expected} as expected; read it again")
        self.expected = expected
        self.actual = actual


class OutcomeRefused(LogError):
    """An intent cannot go from the outcome that it has to the one asked for."""


class IntentUnknown(LogError):
    """No intent has this id."""


class KeyReused(LogError):
    """An idempotency key came again while its first use is still kept."""


class DraftRefused(LogError):
    """An event or an intent holds something that no database can hold."""
