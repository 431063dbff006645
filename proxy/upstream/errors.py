"""What can go wrong on the way to the legacy, split by what the legacy can have got.

    UpstreamError
    ├── NotSent      the legacy got no byte of the request: it was not applied
    └── Lost         it may have got all of it: what became of it is unknown

`code` is a short fixed word for journals and metrics; the message is a sentence.
"""

from __future__ import annotations


class UpstreamError(Exception):
    """A request that has no (whole) answer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status that tells a client what happened."""
        return 502


class NotSent(UpstreamError):
    """Proof that the legacy got nothing of the request.

    Codes: connect_refused, connect_failed, connect_timeout, tls_failed, queue_full, queue_timeout, closed.
    """

    @property
    def status(self) -> int:
        """The HTTP status that tells a client: 503 when there is no room, 504 for a timeout, else 502."""
        if self.code in ("queue_full", "queue_timeout", "closed"):
            return 503
        return 504 if self.code == "connect_timeout" else 502


class Lost(UpstreamError):
    """A byte of the request may have reached the legacy, and its answer did not come back whole.

    Codes: reset, closed_early, truncated, bad_answer, response_timeout, body_timeout, write_timeout,
    request_cut (the sender of the body stopped in the middle), given_up (we did).
    """

    @property
    def status(self) -> int:
        """The HTTP status that tells a client: 504 for a timeout, else 502."""
        return 504 if self.code.endswith("_timeout") else 502
