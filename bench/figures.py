"""What was measured, what it is compared with, and whether that is good enough."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Gauge(Enum):
    """Which figure a target is about."""

    RATIO = "ratio"
    """Ours divided by theirs, of the same round."""
    ADDED = "added"
    """Ours less theirs, of the same round."""
    OWN = "own"
    """Ours alone."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on one figure."""

    gauge: Gauge
    bound: float
    at_least: bool
    unit: str = ""

    def met_by(self, value: float) -> bool:
        """Tell whether `value` keeps to the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{'added ' if self.gauge is Gauge.ADDED else ''}{sign} {plain(self.bound)}{_with(self.unit)}"


def ratio(*, at_least: float | None = None, at_most: float | None = None) -> Target:
    """A target for ours divided by theirs."""
    return _target(Gauge.RATIO, at_least, at_most, "×")


def added(unit: str, *, at_most: float) -> Target:
    """A target for how much more ours is than theirs."""
    return _target(Gauge.ADDED, None, at_most, unit)


def own(unit: str, *, at_least: float | None = None, at_most: float | None = None) -> Target:
    """A target for our own figure."""
    return _target(Gauge.OWN, at_least, at_most, unit)


def _target(gauge: Gauge, at_least: float | None, at_most: float | None, unit: str) -> Target:
    bound = at_least if at_least is not None else at_most
    assert bound is not None
    return Target(gauge, bound, at_least is not None, unit)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure for each round, ours and theirs of a round beside each other.

    Without `ours` the row was skipped, and `note` says why.
    """

    name: str
    unit: str
    target: Target
    ours: tuple[float, ...] = ()
    theirs: tuple[float, ...] = ()
    against: str = "–"
    note: str = ""

    @property
    def skipped(self) -> bool:
        """Tell whether nothing was measured."""
        return not self.ours

    @property
    def ratios(self) -> list[float]:
        """Ours divided by theirs, by round."""
        return [our / their for our, their in zip(self.ours, self.theirs, strict=True)] if self.theirs else []

    @property
    def judged(self) -> list[float]:
        """The figures that the target is about, by round."""
        match self.target.gauge:
            case Gauge.RATIO:
                return self.ratios
            case Gauge.ADDED:
                return [our - their for our, their in zip(self.ours, self.theirs, strict=True)]
            case Gauge.OWN:
                return list(self.ours)

    @property
    def met(self) -> bool | None:
        """Tell whether the target was met, by the median round; None when skipped."""
        return None if self.skipped else self.target.met_by(statistics.median(self.judged))

    def as_json(self) -> dict[str, object]:
        """Return the row for machines."""
        return {
            "name": self.name,
            "ours": middle(self.ours),
            "theirs": middle(self.theirs),
            "ratio": middle(self.ratios),
            "target": str(self.target),
            "met": self.met,
            "unit": self.unit,
            "against": self.against,
            "rounds": {"ours": list(self.ours), "theirs": list(self.theirs)},
            "note": self.note,
        }


def middle(values: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return statistics.median(values) if values else None


HEADINGS = ("what", "ours", "against", "theirs", "ratio", "judged by", "target", "met")


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as the words of a table."""
    if row.skipped:
        return (row.name, "–", row.against, "–", "–", "–", str(row.target), f"skipped: {row.note}")
    judged = "" if row.target.gauge is Gauge.RATIO else _spread(row.judged, row.target.unit)
    met = "yes" if row.met else "NO"
    return (
        row.name,
        _spread(row.ours, row.unit),
        row.against,
        _spread(row.theirs, row.unit),
        _spread(row.ratios, "×"),
        judged,
        str(row.target),
        met,
    )


def _spread(values: Sequence[float], unit: str) -> str:
    """Write the median and, of several rounds, the least and the most."""
    if not values:
        return "–"
    text = f"{plain(statistics.median(values))}{_with(unit)}"
    return text if len(values) == 1 else f"{text} ({plain(min(values))}…{plain(max(values))})"


def _with(unit: str) -> str:
    return unit if unit == "×" else f" {unit}" if unit else ""


def plain(value: float) -> str:
    """Write a number with about three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"
