"""A report with something of everything in it."""

from __future__ import annotations

from reconcile.compare import ABSENT, Difference, Finding, Kind
from reconcile.report import Report, Scope, SelfTest

STARTED = 1_767_225_600_000


def clean(entities: int = 300) -> Report:
    """A complete run that found nothing."""
    scope = Scope("session", "sessions", entities, entities, 0, 0, in_one_look=entities)
    return Report("r1", STARTED, STARTED + 2500, "http://legacy", "c0ffee", "k3f9a1", 7, 7, (scope,), (), requests=4)


def drifting() -> Report:
    """A run with two differences, a doubt and an imperfect self-test."""
    scopes = (
        Scope("session", "sessions", 10, 7, 2, 1, ignored={"session.seen (ann, until 2026-12-31)": 3}),
        Scope("message", "sessions", 0, 0, 0, 0, note="cannot be read"),
    )
    findings = (
        Finding(
            Kind.MISSING_IN_LOG,
            "session",
            "s<1>",
            40,
            "the legacy has it",
            (Difference((), {"title": "A & B"}, ABSENT),),
        ),
        Finding(
            Kind.VALUE_DIFFERS,
            "session",
            "s2",
            41,
            "title differs",
            tuple(Difference(("meta", index), None, index) for index in range(6)),
            events=("event @41 session-title-updated (intent:3)",),
            intents=("intent 3 session.updateTitle: applied",),
            first_divergence=41,
        ),
        Finding(Kind.IN_DOUBT, "session", "s3", None, "no exact comparison: intent 9 was open"),
    )
    return Report(
        "r2",
        STARTED,
        STARTED + 1000,
        "http://legacy",
        "c0ffee",
        "k3f9a1",
        40,
        42,
        scopes,
        findings,
        requests=20,
        sampled=True,
        seed=5,
        self_test=SelfTest(8, 7, ("session: truncated",)),
    )
