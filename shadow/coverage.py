"""Coverage: how much of the mutating traffic the contract gives a meaning to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from shadow.contract import Contract
from shadow.journal import Outcome, Tally
from shadow.json import Json


@dataclass(frozen=True, slots=True)
class Covered:
    """What was seen of one procedure; `phase` is None for one without a rule."""

    procedure: str
    phase: str | None
    outcomes: dict[Outcome, int]

    @property
    def calls(self) -> int:
        """How often the procedure was called."""
        return sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every procedure that was seen or has a rule, by name."""

    procedures: tuple[Covered, ...]

    @property
    def calls(self) -> int:
        """How many mutation calls were seen."""
        return sum(each.calls for each in self.procedures)

    @property
    def share(self) -> float:
        """The mapped part of the calls seen, from 0 to 1; 1 when nothing was seen."""
        mapped = sum(each.calls for each in self.procedures if each.phase is not None)
        return mapped / self.calls if self.calls else 1.0


def coverage(contract: Contract, tallies: Iterable[Tally]) -> Coverage:
    """Compare what was seen with what the contract maps now: a rule added since covers what came before it."""
    seen: dict[str, Counter[Outcome]] = defaultdict(Counter)
    for tally in tallies:
        seen[tally.procedure][tally.outcome] += tally.count
    rules = contract.mutations
    return Coverage(
        tuple(
            Covered(name, rules[name].phase if name in rules else None, dict(seen[name]))
            for name in sorted({*seen, *rules})
        )
    )


def as_json(found: Coverage) -> Json:
    """Return the coverage as commands print it."""
    return {"share": found.share, "calls": found.calls, "procedures": [row(each) for each in found.procedures]}


def row(covered: Covered) -> dict[str, Json]:
    """Return one procedure as a row: its name, phase, whether it is mapped, and a count for each outcome."""
    counts = {outcome.value: count for outcome, count in covered.outcomes.items()}
    mapped = covered.phase is not None
    return {"procedure": covered.procedure, "phase": covered.phase, "mapped": mapped, "calls": covered.calls, **counts}
