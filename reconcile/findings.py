"""From what a pass found to what a report tells: each difference named, traced and explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from reconcile.compare import ABSENT, Finding, Kind, Trace, classify, redacted, render
from reconcile.evidence import Evidence, Past
from reconcile.history import event_line, first_divergence, intent_line
from reconcile.passes import Difference, Plan, Tally
from shadow.events import EntityKey

TRACED: Final = 500
"""How many differences of one kind are traced through the journal; beyond that somebody reads the first ones first."""
LINES: Final = 5
"""How many events and intents a finding tells."""


def findings_of(plan: Plan, tally: Tally, evidence: Evidence, today: str) -> list[Finding]:
    """Return everything that the comparison of one kind of entity has to report, worst first. Reads the log."""
    found = [*_differences(plan, tally, evidence), *_open_questions(plan, tally), *expired(plan, today)]
    return sorted(found, key=lambda finding: finding.worst_first)


def expired(plan: Plan, today: str) -> Iterator[Finding]:
    """Yield a finding for each ignore rule that is past its last day."""
    for rule in plan.rules.ignored:
        if rule.expired(today):
            yield Finding(
                Kind.EXPIRED_IGNORE,
                rule.entity,
                "",
                None,
                f"the agreement to ignore {rule.path} ended on {rule.expires}; {rule.owner} gave the reason: "
                f"{rule.reason}; mend it or agree anew",
            )


def _differences(plan: Plan, tally: Tally, evidence: Evidence) -> Iterator[Finding]:
    name = plan.kind.name
    traced = tally.differing[:TRACED]
    pasts = evidence.past([EntityKey(name, difference.key) for difference in traced])
    imported = evidence.imported(name)
    for difference in traced:
        past = pasts[EntityKey(name, difference.key)]
        kind = classify(difference.comparison.differences, _trace(past, imported=imported), plan.rules)
        yield _finding(plan, difference, kind, past)
    for difference in tally.differing[TRACED:]:
        kind = classify(difference.comparison.differences, Trace())
        kind = Kind.VALUE_DIFFERS if kind is Kind.BYPASS_WRITE else kind
        yield _finding(plan, difference, kind, Past())


def _trace(past: Past, *, imported: bool) -> Trace:
    carried = [intent.input for intent in past.intents] + [event.draft.change for event in past.events]
    return Trace(
        carried=tuple(carried),
        intents=len(past.intents),
        events=len(past.events),
        ambiguous=_one_batch(past),
        imported=imported,
        unmapped=bool(past.unmapped),
    )


def _one_batch(past: Past) -> bool:
    """Tell whether the newest two calls came in one batch, whose members a server runs at the same time."""
    newest = past.intents[:2]
    return len(newest) == 2 and newest[0].request == newest[1].request


def _finding(plan: Plan, difference: Difference, kind: Kind, past: Past) -> Finding:
    return Finding(
        kind,
        plan.kind.name,
        difference.key,
        difference.position,
        _message(kind, difference, past),
        tuple(redacted(one, plan.rules) for one in difference.comparison.differences),
        events=tuple(event_line(event) for event in past.events[:LINES]),
        intents=tuple(intent_line(intent) for intent in (*past.unmapped[:LINES], *past.intents)[:LINES]),
        first_divergence=first_divergence(difference.legacy, past.events[::-1], plan.rules, plan.comparable),
    )


def _message(kind: Kind, difference: Difference, past: Past) -> str:
    found = difference.comparison.differences
    whole = next((one for one in found if not one.path), None)
    paths = ", ".join(render(one.path) for one in found[:3]) + (", …" if len(found) > 3 else "")
    match kind:
        case Kind.MISSING_IN_LOG if past.events:
            return f"the legacy has it; the log says that it was deleted at position {difference.position}"
        case Kind.MISSING_IN_LOG:
            return (
                "the legacy has it and the log knows nothing of it: it was made before the proxy came "
                "(then backfill it) or behind its back"
            )
        case Kind.EXTRA_IN_LOG:
            return "the log has it and the legacy does not"
        case Kind.BYPASS_WRITE if whole is not None and whole.log is ABSENT:
            return "the legacy has it, and no call through the proxy ever made it: written behind the proxy's back"
        case Kind.BYPASS_WRITE:
            return f"no call through the proxy ever carried the legacy's {paths}: written behind the proxy's back"
        case Kind.ORDER_AMBIGUOUS:
            return f"{paths} differ, and two calls of one batch wrote this entity: which came last is not known"
        case _ if past.unmapped:
            call = past.unmapped[0].procedure
            return f"{paths} differ, and {call} named this entity, a mutation that the contract has no rule for"
        case _:
            return f"{paths} differ, although a call or an event carried what the legacy holds"


def _open_questions(plan: Plan, tally: Tally) -> Iterator[Finding]:
    name = plan.kind.name
    for key, verdict in tally.unverified.items():
        kind = Kind.IN_DOUBT if verdict.in_doubt else Kind.UNVERIFIED
        yield Finding(kind, name, key, None, f"no exact comparison: {verdict.reason}")
    if tally.stuck:
        yield Finding(
            Kind.UNVERIFIED,
            name,
            "",
            None,
            "more entities share one cursor value than fit on a page of the list; what the log does not know of "
            "them cannot be seen: raise the page size in the contract's list input",
        )


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort findings of several kinds of entity."""
    return tuple(sorted(findings, key=lambda finding: finding.worst_first))
