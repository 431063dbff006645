"""`changeover doubts`: the calls of which nobody knows yet whether the legacy applied them."""

from __future__ import annotations

from changeover import options
from changeover.settings import DATABASE
from shadow.journal import QUARANTINED, UNSETTLED, Intent, Outcome
from shadow.json import Json


def doubts(database: options.Database = DATABASE, as_json: options.AsJson = False) -> None:
    """List what is in doubt, oldest first: since when, why, and whether the proxy can find out by itself.

    What is `open` was under way when a proxy died, and becomes a doubt when one starts again. What is in `quarantine`
    cannot be read from the legacy as things are; the reason says what is missing.
    """
    import time

    from changeover.database import reading
    from changeover.output import emit_json, say, table

    now = time.time_ns() // 1_000_000
    with reading(database) as log:
        unsettled = log.intents(UNSETTLED)
    rows = [_row(intent, now) for intent in unsettled if intent.outcome is Outcome.IN_DOUBT or intent.deadline < now]
    if as_json:
        for row in rows:
            emit_json(row)
        return
    if not rows:
        say("nothing is in doubt")
        return
    shown = [{**row, "age": f"{row['age_seconds']:.0f} s"} for row in rows]
    table(shown, ["intent", "age", "standing", "phase", "procedure", "entity", "key", "reason"])


def _row(intent: Intent, now: int) -> dict[str, Json]:
    reason = intent.detail or ""
    quarantined = reason.startswith(QUARANTINED)
    standing = "quarantine" if quarantined else "open" if intent.outcome is Outcome.OPEN else "in doubt"
    return {
        "intent": intent.id,
        "age_seconds": max(0, now - intent.received) / 1000,
        "standing": standing,
        "phase": intent.phase,
        "procedure": intent.procedure,
        "entity": intent.entity_key and intent.entity_key.entity,
        "key": intent.entity_key and intent.entity_key.key,
        "actor": intent.actor,
        "reason": reason.removeprefix(QUARANTINED) or None,
    }
