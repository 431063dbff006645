"""The journal: what was about to be tried, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from shadow.errors import OutcomeRefused
from shadow.events import Draft, EntityKey
from shadow.json import Json


class Outcome(StrEnum):
    """What became of an intent."""

    OPEN = "open"
    """Forwarded or about to be; nothing is known yet."""
    APPLIED = "applied"
    """The legacy did it; the events are in the log."""
    REJECTED = "rejected"
    """The legacy refused it; there is no event."""
    IN_DOUBT = "in_doubt"
    """Nobody knows: no answer came, or one that proves nothing."""
    NOT_APPLIED = "not_applied"
    """It was in doubt, or was never sent, and the legacy's state shows that nothing happened."""
    OBSERVED = "observed"
    """It was in doubt; the legacy's state is neither the one before nor the one predicted, recorded as found."""


_MOVES: dict[Outcome, frozenset[Outcome]] = {
    Outcome.OPEN: frozenset({Outcome.APPLIED, Outcome.REJECTED, Outcome.IN_DOUBT, Outcome.NOT_APPLIED}),
    Outcome.IN_DOUBT: frozenset({Outcome.IN_DOUBT, Outcome.APPLIED, Outcome.NOT_APPLIED, Outcome.OBSERVED}),
}

WITH_EVENTS = frozenset({Outcome.APPLIED, Outcome.OBSERVED})
"""The outcomes that lead to events; any other has none."""

UNSETTLED = (Outcome.OPEN, Outcome.IN_DOUBT)
"""The outcomes that are not final."""

ANSWERED = "answered:"
"""Begins the reason of a doubt whose call surely has ended: the legacy answered, but in a way that proves nothing."""

QUARANTINED = "quarantined:"
"""Begins the reason of a doubt that cannot be resolved as things are."""


def moves(current: Outcome, wanted: Outcome) -> bool:
    """Tell whether settling `wanted` changes an intent that is at `current`; False if it is there already.

    What is in doubt may stay so for another reason.

    Raises OutcomeRefused for any move that the protocol does not have, such as applied to rejected.
    """
    ways = _MOVES.get(current, ())
    if wanted is current and wanted not in ways:
        return False
    if wanted not in ways:
        raise OutcomeRefused(f"an intent that is {current.value} cannot become {wanted.value}")
    return True


class NewIntent(msgspec.Struct, frozen=True):
    """One call that is about to be forwarded. Times are milliseconds since the Unix epoch.

    `input` is kept as given, so secrets must be sealed already. `deadline` is when the call can no longer
    apply. With `idempotency` the answer is kept until `keep_until` under that key and `index`, together with
    the request's `fingerprint`.
    """

    request: str
    index: int
    procedure: str
    phase: str | None
    stage_epoch: int
    entity_key: EntityKey | None
    input: Json
    actor: str | None
    received: int
    deadline: int
    idempotency: str | None = None
    fingerprint: str | None = None
    keep_until: int = 0


class Settlement(msgspec.Struct, frozen=True):
    """What became of one intent at the time `at`; `answer` is kept if the intent has an idempotency key.

    NOT_APPLIED frees the key, and so does REJECTED without an answer.
    """

    intent: int
    outcome: Outcome
    at: int
    drafts: tuple[Draft, ...] = ()
    detail: str | None = None
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent as the journal holds it; its events are the `events` ones from `position` on."""

    id: int
    request: str
    index: int
    procedure: str
    phase: str | None
    stage_epoch: int
    entity_key: EntityKey | None
    input: Json
    actor: str | None
    received: int
    deadline: int
    idempotency: str | None
    outcome: Outcome
    detail: str | None
    settled_at: int | None
    position: int | None
    events: int


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What is kept under an idempotency key; `answer` is None while its intent is not settled with one."""

    intent: int
    fingerprint: str | None
    answer: bytes | None
    expires: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How many intents of a procedure came to an outcome; `phase` is None for mutations without a rule."""

    procedure: str
    phase: str | None
    outcome: Outcome
    count: int
