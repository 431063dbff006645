"""Runs kept in the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reconcile.record import draft, kept, proofs, trend
from reconcile.report import Verdict
from shadow import json
from tests.support.reconcile import world
from tests.support.reports import clean, drifting


async def test_kept_runs_come_back_oldest_first_and_only_as_many_as_asked(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        for number in range(5):
            await both.log.append([draft(clean(number), f"run{number}")])
            await both.write(f"n{number}", title="T")
        assert [run["planned"] for run in kept(both.log, 3)] == [2, 3, 4]
        assert len(kept(both.log, 50)) == 5


async def test_a_kept_run_holds_no_key_and_no_value(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.log.append([draft(drifting(), "run")])
        text = json.encode(kept(both.log, 1)).decode()
    assert "A & B" not in text
    assert "s<1>" not in text
    assert '"missing_in_log":1' in text


def test_the_newest_proof_of_each_phase_counts() -> None:
    runs = [draft(report, "id").data for report in (clean(100), drifting(), clean(300))]
    proof = proofs(runs)["sessions"]
    assert (proof.exact, proof.differing, proof.coverage) == (300, 0, 1.0)
    assert proofs(runs[:2])["sessions"].coverage == 0.9


def test_a_run_over_some_keys_proves_nothing_about_a_phase() -> None:
    runs = [draft(report, "id").data for report in (drifting(), replace(clean(1), narrowed=True))]
    assert proofs(runs)["sessions"].differing == 2
    assert trend(runs) == ()


def test_a_trend_leaves_samples_out() -> None:
    points = trend([draft(report, "id").data for report in (clean(100), drifting())])
    assert [(point.verdict, point.exact) for point in points] == [(Verdict.CLEAN, 100)]
