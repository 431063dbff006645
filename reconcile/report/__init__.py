"""What a run came to, and the forms in which it is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from reconcile.compare import DRIFT, Finding, Kind

FORMATS: Final = ("text", "json", "junit", "sarif", "markdown", "html")


class Verdict(StrEnum):
    """What a run says as a whole."""

    CLEAN = "clean"
    """Everything that was planned was compared exactly, and is equal."""
    DRIFT = "drift"
    """At least one confirmed difference, of a kind that counts."""
    INCONCLUSIVE = "inconclusive"
    """No difference that counts, but too much stayed open, or the detector failed its own test."""


EXIT_CODES: Final = {Verdict.CLEAN: 0, Verdict.DRIFT: 1, Verdict.INCONCLUSIVE: 2}
"""The command's exit codes; 3 is an error, and then there is no report."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What was done for one kind of entity. The counts add up: planned = matched + differing + unverified."""

    entity: str
    phase: str
    planned: int
    matched: int
    differing: int
    unverified: int
    in_one_look: int = 0
    """How many of the exact comparisons were settled in the first pass over the legacy's list."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """How many differences each ignore rule hid, by what it names and who owns it."""
    volatile: Mapping[str, int] = field(default_factory=dict)
    """How many differences were set aside in fields that the legacy itself reports differently from read to read."""
    learnt: tuple[str, ...] = ()
    """Fields that this run found to be so, and therefore set aside."""
    note: str | None = None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What has to be said of this kind besides the counts."""
        return (
            *((self.note,) if self.note else ()),
            *(f"learnt that {path} differs between two reads of the legacy itself" for path in self.learnt),
            *(f"{count} ignored by {rule}" for rule, count in self.ignored.items()),
            *(f"{count} in volatile {path}" for path, count in self.volatile.items()),
        )

    @property
    def exact(self) -> int:
        """How many comparisons were exact."""
        return self.matched + self.differing


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What the detector found of the faults that were put into a copy for it to find."""

    planted: int
    found: int
    missed: tuple[str, ...] = ()

    @property
    def recall(self) -> float:
        """The found share of what was planted."""
        return self.found / self.planted if self.planted else 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """One run of the past, as a trend needs it. `finished` in milliseconds since the Unix epoch."""

    finished: int
    verdict: Verdict
    exact: int
    differing: int
    coverage: float


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run. Times are milliseconds since the Unix epoch, positions are those of the log `epoch`."""

    id: str
    started: int
    finished: int
    legacy: str
    contract: str
    """The contract's hash."""
    epoch: str
    first_position: int
    """Where the log stood when the run began."""
    last_position: int
    """Where it stood at the end; every comparison was exact at a position between these two."""
    scopes: tuple[Scope, ...]
    findings: tuple[Finding, ...]
    """Worst first."""
    requests: int
    """How many requests the legacy had to answer."""
    sampled: bool = False
    narrowed: bool = False
    """Only some kinds of entities, or some keys, were asked for: says nothing about a phase as a whole."""
    seed: int = 0
    self_test: SelfTest | None = None
    fail_on: frozenset[Kind] = DRIFT
    min_coverage: float = 1.0

    @property
    def planned(self) -> int:
        """How many entities were to be compared."""
        return sum(scope.planned for scope in self.scopes)

    @property
    def exact(self) -> int:
        """How many were compared exactly."""
        return sum(scope.exact for scope in self.scopes)

    @property
    def differing(self) -> int:
        """How many differ."""
        return sum(scope.differing for scope in self.scopes)

    @property
    def coverage(self) -> float:
        """The share of the planned comparisons that were exact; nothing planned is nothing missed."""
        return self.exact / self.planned if self.planned else 1.0

    @property
    def bound(self) -> float | None:
        """With 95 % confidence at most this share of all entities differs; None when a difference was found.

        No difference in n random exact comparisons leaves room for about 3/n (the rule of three).
        """
        if self.differing or not self.exact:
            return None
        return 1.0 - math.exp(math.log(0.05) / self.exact)

    @property
    def verdict(self) -> Verdict:
        """What the run says as a whole: drift before inconclusive, inconclusive before clean."""
        if any(finding.kind in self.fail_on for finding in self.findings):
            return Verdict.DRIFT
        tested = self.self_test is None or self.self_test.recall == 1.0
        open_question = any(finding.kind is Kind.UNVERIFIED and not finding.key for finding in self.findings)
        if self.coverage < self.min_coverage or not tested or open_question:
            return Verdict.INCONCLUSIVE
        return Verdict.CLEAN

    @property
    def exit_code(self) -> int:
        """0 clean, 1 drift, 2 inconclusive."""
        return EXIT_CODES[self.verdict]


def render(
    report: Report,
    format: str,  # noqa: A002  the option's name
    *,
    width: int = 100,
    color: bool = False,
    contract: str = "contract.toml",
    trend: Sequence[Point] = (),
) -> str:
    """Tell a report in one of `FORMATS`; raises ValueError for another.

    `width` and `color` are for text, `contract` (its file's name) for SARIF, `trend` (runs, oldest first) for HTML.
    """
    from reconcile.report import html, json, junit, markdown, sarif, text

    match format:
        case "text":
            return text.render(report, width=width, color=color)
        case "json":
            return json.render(report)
        case "junit":
            return junit.render(report)
        case "sarif":
            return sarif.render(report, contract=contract)
        case "markdown":
            return markdown.render(report)
        case "html":
            return html.render(report, trend)
    raise ValueError(f"no such report format: {format!r} (there are {', '.join(FORMATS)})")
