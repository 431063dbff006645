"""Plays the rounds of many seeds, several at once, and adds up what came of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.crash.arena import arena
from tests.crash.checker import Promise
from tests.crash.evidence import Marks
from tests.crash.nursery import Nursery, nursery
from tests.crash.rounds import Result, play
from tests.crash.script import Script, write_script

ROUNDS = 20
"""How many rounds an arena lives through: its whole log is verified after each, which takes ever longer."""


@dataclass(frozen=True, slots=True)
class Round:
    """What came of one seed: a result, or, when the round did not come to its end, the error."""

    script: Script
    result: Result | None
    error: str = ""
    folder: Path | None = None
    """Where the logs and the databases of a round that failed are kept."""

    @property
    def failed(self) -> bool:
        """Tell whether a promise was broken, or the round did not come to its end."""
        return self.result is None or bool(self.result.violations)

    def __str__(self) -> str:
        told = [self.error] if self.result is None else [str(violation) for violation in self.result.violations]
        replay = f"play it again with: make soak SEED={self.script.seed}"
        title = f"seed {self.script.seed} ({self.script.kind})"
        return "\n    ".join([title, *told, replay, f"logs and databases: {self.folder}"])


@dataclass(slots=True)
class Figures:
    """What the rounds so far add up to."""

    runs: int = 0
    kills: int = 0
    acknowledged: int = 0
    longest: int = 0
    """Milliseconds that a call was in doubt at most."""
    broken: Counter[Promise] = field(default_factory=Counter)
    failed: list[Round] = field(default_factory=list)

    def add(self, one: Round) -> None:
        """Add a round."""
        self.runs += 1
        if one.failed:
            self.failed.append(one)
        if one.result is not None:
            self.kills += one.result.kills
            self.acknowledged += one.result.acknowledged
            self.longest = max(self.longest, one.result.longest)
            self.broken.update(violation.promise for violation in one.result.violations)

    def __str__(self) -> str:
        """Return the figures as one line; what is rare is named only if it happened."""
        lost, invented, disordered = (self.broken[it] for it in (Promise.LOST, Promise.INVENTED, Promise.DISORDERED))
        other = self.broken.total() - lost - invented - disordered
        unfinished = sum(1 for one in self.failed if one.result is None)
        parts = [
            f"{self.runs} runs",
            f"{self.kills} kills",
            f"{self.acknowledged} mutations acknowledged",
            f"{lost} lost",
            f"{invented} invented",
            f"{disordered} out of order",
            *([f"{other} promises broken otherwise"] if other else []),
            *([f"{unfinished} runs without an end"] if unfinished else []),
            f"longest doubt {self.longest / 1000:.1f} s",
        ]
        return " · ".join(parts)


async def campaign(
    seeds: Iterable[int], folder: Path, tell: Callable[[Round], None], *, lanes: int = 4, times: int = 1
) -> None:
    """Play the rounds of `seeds`, each so many `times`, and tell what came of each when it is over.

    Half of the lanes are for the rounds in which phases fail open, which is said by the seed, like all the rest. What
    a failed round leaves behind is kept below `folder`; everything else is removed.
    """
    scripts = [script for seed in seeds for script in [write_script(seed)] * times]
    async with nursery() as proxies, asyncio.TaskGroup() as group:
        for fail_open in (False, True):
            waiting = iter([script for script in scripts if script.fail_open is fail_open])
            for _ in range(max(1, lanes // 2)):
                group.create_task(_lane(waiting, folder, proxies, tell))


async def _lane(waiting: Iterator[Script], folder: Path, proxies: Nursery, tell: Callable[[Round], None]) -> None:
    while scripts := deque(islice(waiting, ROUNDS)):
        while scripts:
            await _arena(scripts, Path(tempfile.mkdtemp(dir=folder)), proxies, tell)


async def _arena(scripts: deque[Script], folder: Path, proxies: Nursery, tell: Callable[[Round], None]) -> None:
    """Play in one fresh arena until a round fails, for then nobody knows what the next one would begin with."""
    playing, failed = scripts.popleft(), False
    try:
        async with arena(folder, proxies, fail_open=playing.fail_open) as here:
            marks = Marks()
            while True:
                result = await play(here, playing, marks)
                failed = bool(result.violations)
                tell(Round(playing, result, folder=folder))
                if failed or result.overruns or not scripts:
                    break  # what came after its time is known to nobody, and the next round would stumble over it
                marks = marks.behind(result.facts)
                playing = scripts.popleft()
    except Exception as error:
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError from error  # Ctrl-C reaches the legacy, too: its end is no finding
        failed = True
        tell(Round(playing, None, "".join(traceback.format_exception(error)), folder))
    finally:
        if not failed:
            await asyncio.to_thread(shutil.rmtree, folder)
