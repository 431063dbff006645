"""Runs are kept in the log itself, as events: evidence that nobody can alter later without breaking the chain.

Only counts are kept, no entity's key and no value: subscribers of `app:*` may read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from reconcile.report import Point, Report, Verdict
from shadow.events import Draft
from shadow.json import Json
from shadow.reader import Reader

CHANNEL: Final = "app:reconcile"
FINISHED: Final = "reconcile-finished"


def draft(report: Report, event: str) -> Draft:
    """Return the event, with the id `event`, that keeps a run."""
    return Draft(event, CHANNEL, FINISHED, report.finished, summary(report), cause="reconcile")


def summary(report: Report) -> dict[str, Json]:
    """Return what is kept of a run."""
    test = report.self_test
    return {
        "run": report.id,
        "verdict": report.verdict.value,
        "started": report.started,
        "finished": report.finished,
        "contract": report.contract,
        "first_position": report.first_position,
        "last_position": report.last_position,
        "planned": report.planned,
        "exact": report.exact,
        "differing": report.differing,
        "sampled": report.sampled,
        "narrowed": report.narrowed,
        "requests": report.requests,
        "self_test": None if test is None else {"planted": test.planted, "found": test.found},
        "findings": dict(Counter(finding.kind.value for finding in report.findings)),
        "scopes": [
            {
                "entity": scope.entity,
                "phase": scope.phase,
                "planned": scope.planned,
                "exact": scope.exact,
                "differing": scope.differing,
            }
            for scope in report.scopes
        ],
    }


def kept(reader: Reader, limit: int) -> list[dict[str, Json]]:
    """Return the summaries of the last `limit` kept runs, oldest first."""
    head = reader.head.position
    window = 1024
    while True:
        after = max(0, head - window)
        found = reader.read([CHANNEL], after=after, limit=window, types=[FINISHED])
        if len(found) >= limit or after == 0:
            return [event.draft.data for event in found[-limit:]]
        window *= 8


def trend(runs: Iterable[dict[str, Json]]) -> tuple[Point, ...]:
    """Return kept runs as a report shows them over time; samples and narrowed runs are left out: no two are alike."""
    return tuple(
        Point(
            run["finished"],
            Verdict(run["verdict"]),
            run["exact"],
            run["differing"],
            run["exact"] / run["planned"] if run["planned"] else 1.0,
        )
        for run in runs
        if not run["sampled"] and not run["narrowed"]
    )


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest exact comparison of one phase. `finished` is in milliseconds since the Unix epoch."""

    phase: str
    finished: int
    position: int
    planned: int
    exact: int
    differing: int

    @property
    def coverage(self) -> float:
        """The share of the planned comparisons that were exact."""
        return self.exact / self.planned if self.planned else 1.0


def proofs(runs: Sequence[dict[str, Json]]) -> dict[str, Proof]:
    """Return the newest proof of each phase that any of the kept runs compared as a whole; `runs` are oldest first."""
    found: dict[str, Proof] = {}
    for run in runs:
        if run["narrowed"]:
            continue
        for phase in dict.fromkeys(scope["phase"] for scope in run["scopes"]):
            scopes = [scope for scope in run["scopes"] if scope["phase"] == phase]
            planned, exact, differing = (sum(s[name] for s in scopes) for name in ("planned", "exact", "differing"))
            found[phase] = Proof(phase, run["finished"], run["last_position"], planned, exact, differing)
    return found


AGAIN: Final = 3_600_000
"""Milliseconds after which a run is kept even if it says what the one before said."""


def worth_keeping(report: Report, last: Report | None) -> bool:
    """Tell whether a run of a series says something new, or is due anyway."""
    if last is None or report.finished - last.finished >= AGAIN:
        return True
    return (report.verdict, report.differing) != (last.verdict, last.differing)
