"""Errors a user can mend, as sentences."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """What the command says instead of a traceback, and its exit code."""

    message: str
    code: int = 3


class UserError(Exception):
    """Something the user asked for cannot be done; the message says what to do instead."""

    def __init__(self, message: str, code: int = 3) -> None:
        super().__init__(message)
        self.code = code


def explain(error: Exception) -> Refusal | None:
    """Return the sentence for an expected error, or None for a defect of ours.

    The rooms mark the errors that are meant for users by deriving them from `shadow.errors.Mendable`.
    """
    from shadow.errors import Mendable

    if isinstance(error, UserError):
        return Refusal(str(error), error.code)
    if isinstance(error, Mendable):
        return Refusal(str(error), error.code)
    return None
