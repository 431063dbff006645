"""`Idempotency-Key`: a client that heard nothing asks again, and gets the answer that it missed.

The intents of a request reserve its key, each call under its index, in the transaction that makes them durable; so
two requests with one key can never both be forwarded, whatever happens to the proxy. The answer is kept in the
transaction that settles the calls. A retry is answered from it byte for byte; while the first request is running or
in doubt the retry waits for it; with another body, path or caller it is refused.

What was proven not to have been applied frees its key: the retry is then a first try.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from proxy.framing import Pairs
from shadow import json
from shadow.journal import UNSETTLED, Intent, KeptAnswer
from shadow.privacy import Privacy

HEADER: Final = b"idempotency-key"
LONGEST: Final = 255
"""Bytes of a key."""

REPLAYED: Final = (b"Idempotent-Replayed", b"true")
"""Tells a client that its answer is an old one."""

_KEPT_HEADERS: Final = frozenset({b"content-type", b"content-encoding", b"content-language", b"vary"})
_POLL: Final = 0.1


@dataclass(frozen=True, slots=True)
class Retried:
    """A whole answer as it was given the first time."""

    status: int
    reason: bytes | None
    headers: Pairs
    body: bytes

    def kept(self) -> bytes:
        """Return it as it is kept; `read` reads it."""
        headers = [
            [name.decode("latin-1"), value.decode("latin-1")]
            for name, value in self.headers
            if name.lower() in _KEPT_HEADERS
        ]
        reason = None if self.reason is None else self.reason.decode("latin-1")
        return json.encode({"status": self.status, "reason": reason, "headers": headers}) + b"\n" + self.body

    @classmethod
    def read(cls, kept: bytes) -> Retried:
        """Read what `kept` returned, ready to be sent."""
        head, _, body = kept.partition(b"\n")
        told = json.decode(head)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in told["headers"]]
        headers += [(b"Content-Length", b"%d" % len(body)), REPLAYED]
        reason = told["reason"]
        return cls(told["status"], None if reason is None else reason.encode("latin-1"), headers, body)


@dataclass(frozen=True, slots=True)
class Refused:
    """The retry cannot be answered: the HTTP status and the sentence that say why."""

    status: int
    sentence: str


class Journal(Protocol):
    """What is asked of the log; both methods block."""

    def answer(self, idempotency: str, index: int, now: int) -> KeptAnswer | None:
        """Return what is kept under a key and index."""

    def intent(self, id: int) -> Intent | None:
        """Return one intent."""


OTHER_REQUEST = Refused(
    409, "this Idempotency-Key was used for another request; a new request needs a new key, a retry the same body"
)
LOST = Refused(
    409, "the first request with this Idempotency-Key was carried out, but its answer was lost; read what it changed"
)
STILL_UNKNOWN = Refused(
    503, "what became of the first request with this Idempotency-Key is not known yet; try again shortly"
)


async def find(
    journal: Journal,
    privacy: Privacy,
    key: str,
    indexes: Sequence[int],
    fingerprint: str,
    *,
    clock: Callable[[], int],
    patience: float,
) -> Retried | Refused | None:
    """Return the answer that a retry gets; None when the key is free, so that the retry is a first try.

    Waits up to `patience` seconds while the first request is running or in doubt.
    """
    deadline = clock() + round(patience * 1000)
    while True:
        found = await asyncio.to_thread(look, journal, key, tuple(indexes), fingerprint, clock())
        if isinstance(found, bytes):
            return Retried.read(privacy.open_answer(found))
        if found is not STILL_UNKNOWN or clock() >= deadline:
            return found
        await asyncio.sleep(_POLL)


def look(journal: Journal, key: str, indexes: tuple[int, ...], fingerprint: str, now: int) -> bytes | Refused | None:
    """Return what a retry gets by what is known now: the answer as it was kept, a refusal, or None for a free key."""
    found = _look(journal, key, indexes, fingerprint, now)
    # Answers and intents are read one after the other; what is settled in between has its answer by now.
    return _look(journal, key, indexes, fingerprint, now) if found is LOST else found


def _look(journal: Journal, key: str, indexes: tuple[int, ...], fingerprint: str, now: int) -> bytes | Refused | None:
    kept = [journal.answer(key, index, now) for index in indexes]
    there = [each for each in kept if each is not None]
    if not there:
        return None
    if any(each.fingerprint != fingerprint for each in there):
        return OTHER_REQUEST
    answers = [each.answer for each in there if each.answer is not None]
    if len(answers) == len(kept):
        return next((answer for answer in answers if answer), LOST)
    for each in there:
        if each.answer is None:
            intent = journal.intent(each.intent)
            if intent is not None and intent.outcome in UNSETTLED:
                return STILL_UNKNOWN
    return LOST
