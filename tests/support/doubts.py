"""Calls in doubt for tests that care about what they asked for only."""

from __future__ import annotations

from shadow.journal import Intent, Outcome
from shadow.json import Json

RECEIVED = 1_700_000_000_000
"""When every call in doubt came in."""


def in_doubt(procedure: str, given: Json, *, id: int = 7, phase: str = "notes") -> Intent:
    """Return the intent of a call that nobody answered."""
    return Intent(
        id=id,
        request="request",
        index=0,
        procedure=procedure,
        phase=phase,
        stage_epoch=1,
        entity_key=None,
        input=given,
        actor="ana",
        received=RECEIVED,
        deadline=RECEIVED + 30_000,
        idempotency=None,
        outcome=Outcome.IN_DOUBT,
        detail="reset",
        settled_at=None,
        position=None,
        events=0,
    )
