"""Kills proxy and legacy for as long as one likes; `make soak` runs it.

The last line are the figures. The exit code is 1 when a promise was broken or a round did not come to its end, and 130
after Ctrl-C, which ends the rounds under way.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash.campaign import Figures, Round, campaign

EVERY = 10.0
"""Seconds between two lines of progress where nobody looks at a terminal."""


@dataclass(slots=True)
class Reporter:
    """Counts the rounds, and shows how far it is."""

    figures: Figures
    total: int
    shown: float = 0.0

    def tell(self, one: Round) -> None:
        """Count a round; one that failed is told of at once."""
        self.figures.add(one)
        if one.failed:
            self._wipe()
            print(one, flush=True)
        if sys.stdout.isatty():
            print(f"\r\x1b[K{self._line()[: _width() - 1]}", end="", flush=True)
        elif time.monotonic() - self.shown >= EVERY:
            self.shown = time.monotonic()
            print(self._line(), flush=True)

    def close(self) -> None:
        """Say which seeds failed, and the figures."""
        self._wipe()
        for seed in dict.fromkeys(one.script.seed for one in self.figures.failed):
            print(f"failed: make soak SEED={seed}")
        print(self.figures, flush=True)

    def _line(self) -> str:
        return f"[{self.figures.runs}/{self.total}] {self.figures}"

    def _wipe(self) -> None:
        if sys.stdout.isatty():
            print("\r\x1b[K", end="")


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the rounds that the command line asks for, and return the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--times", type=int, default=1, help="how often each of them")
    parser.add_argument("--lanes", type=int, default=2 * (os.cpu_count() or 1), help="how many at once")
    asked = parser.parse_args(arguments)
    seeds = range(asked.first, asked.first + asked.seeds) if asked.seed is None else (asked.seed,)
    reporter = Reporter(Figures(), len(seeds) * asked.times)
    folder = Path(tempfile.mkdtemp(prefix="changeover-soak-"))
    interrupted = False
    try:
        asyncio.run(campaign(seeds, folder, reporter.tell, lanes=asked.lanes, times=asked.times))
    except KeyboardInterrupt:
        interrupted = True
    reporter.close()
    if reporter.figures.failed:
        return 1
    folder.rmdir()
    return 130 if interrupted else 0


def _width() -> int:
    return os.get_terminal_size(sys.stdout.fileno()).columns or 80


if __name__ == "__main__":
    # Whoever ends it, and however it was started: no process of an arena is left behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(main())
