"""What can go wrong while reading the legacy or the log.

    ReconcileError
    ├── LegacyUnreachable   no answer at all
    ├── QueryRefused        an answer that is an error, and asking again would not help
    └── QueryFailed         an answer that is an error, after all retries

Messages never repeat what the legacy said: such texts carry SQL, parameters and stack traces.
"""

from __future__ import annotations

from shadow.errors import Mendable


class ReconcileError(Mendable):
    """Something kept the reconciler from doing its work; the message says what, where and what to do."""


class LegacyUnreachable(ReconcileError):
    """Nothing answered at the legacy's address."""


class QueryRefused(ReconcileError):
    """The legacy refused a query of the contract: a wrong name, input or token."""

    def __init__(self, message: str, procedure: str, error: str) -> None:
        super().__init__(message)
        self.procedure = procedure
        self.error = error
        """tRPC's name of the error, as in NOT_FOUND, or `HTTP 502`."""


class QueryFailed(ReconcileError):
    """The legacy could not answer a query of the contract, however often it was asked."""
