"""A soak says what it saw, in one line, and never says that all is well when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import soak
from tests.crash.campaign import Figures, Round
from tests.crash.checker import Promise, Violation
from tests.crash.facts import Facts, Said
from tests.crash.rounds import Result
from tests.crash.script import write_script


def round_of(seed: int, *broken: Promise, kills: int = 2) -> Round:
    said = tuple(Said(f"t{number}", "session.create", number < 3, 1) for number in range(4))
    script = write_script(seed)
    violations = tuple(Violation(promise, "here") for promise in broken)
    return Round(script, Result(script, Facts(said=said), violations, kills), folder=Path("kept"))


def endless(seed: int) -> Round:
    return Round(write_script(seed), None, "Restless: after 60 s: 3 calls in the spool", Path("kept"))


@pytest.fixture(name="playing")
def _playing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Have the soak play these rounds, and raise this in the end."""

    def play(*rounds: Round, end: type[BaseException] | None = None) -> None:
        async def campaign(seeds: Iterable[int], folder: Path, tell: Callable[[Round], None], **_: Any) -> None:
            await asyncio.sleep(0)
            for one in rounds:
                tell(one)
            if end is not None:
                raise end

        monkeypatch.setattr(soak, "campaign", campaign)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return play


def test_the_last_line_are_the_figures(playing: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    playing(round_of(1), round_of(2, kills=3))

    assert soak.main(["--seeds", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "2 runs · 5 kills · 6 mutations acknowledged · 0 lost · 0 invented · 0 out of order · longest doubt 0.0 s"
    )


@pytest.mark.parametrize("promise", Promise)
def test_a_broken_promise_ends_with_the_seed_and_a_failure(
    playing: Callable[..., None], capsys: pytest.CaptureFixture[str], promise: Promise
) -> None:
    playing(round_of(1), round_of(2, promise), round_of(3))

    assert soak.main(["--seeds", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "failed: make soak SEED=2" in lines
    assert any("1 " in part for part in lines[-1].split(" · ")[3:-1])


def test_a_round_without_an_end_is_a_failure(playing: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    playing(endless(7))

    assert soak.main(["--seed", "7"]) == 1
    out = capsys.readouterr().out
    assert "3 calls in the spool" in out
    assert "1 runs without an end" in out.splitlines()[-1]


@pytest.mark.parametrize(("rounds", "code"), [((1,), 130), ((1, 2), 1)])
def test_an_interrupted_soak_shows_the_figures_so_far(
    playing: Callable[..., None], capsys: pytest.CaptureFixture[str], rounds: tuple[int, ...], code: int
) -> None:
    playing(*(round_of(1) if number == 1 else endless(2) for number in rounds), end=KeyboardInterrupt)

    assert soak.main(["--seeds", "9"]) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{len(rounds)} runs")


def test_figures_add_up() -> None:
    figures = Figures()
    for one in (round_of(1), round_of(2, Promise.LOST, Promise.TORN), endless(3)):
        figures.add(one)

    assert (figures.runs, figures.kills, figures.acknowledged) == (3, 4, 6)
    assert [one.script.seed for one in figures.failed] == [2, 3]
    assert "1 lost" in str(figures)
    assert "1 promises broken otherwise" in str(figures)
