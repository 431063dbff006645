"""How much to measure, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SERVER_CPU = (0,)
"""Runs what is measured: our proxy, or nginx in its place."""
OTHERS_CPU = (1,)
"""Runs the load and the legacy."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run takes: `seconds` for each load, `scale` for work that is counted instead of timed."""

    rounds: int
    seconds: int
    scale: float
    full: bool
    """Whether the growth curves go up to their full size."""
    folder: Path
    """Where servers and logs keep their files, on a disk whose fsync counts."""
