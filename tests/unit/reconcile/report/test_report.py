"""What a report concludes, and how it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from junitparser import JUnitXml, TestSuite

from reconcile.compare import Finding, Kind
from reconcile.report import FORMATS, Report, Scope, SelfTest, Verdict, render
from shadow import json
from tests.support.reports import clean, drifting


def test_nothing_found_bounds_what_may_have_been_missed() -> None:
    assert clean(300).bound == pytest.approx(0.00994, rel=1e-3)
    assert clean(1).bound == pytest.approx(0.95)
    assert clean(0).bound is None
    assert drifting().bound is None


@pytest.mark.parametrize(
    ("report", "verdict", "exit_code"),
    [
        (clean(), Verdict.CLEAN, 0),
        (clean(0), Verdict.CLEAN, 0),
        (drifting(), Verdict.DRIFT, 1),
        (replace(drifting(), fail_on=frozenset()), Verdict.INCONCLUSIVE, 2),
        (replace(clean(), self_test=SelfTest(8, 8)), Verdict.CLEAN, 0),
        (replace(clean(), self_test=SelfTest(8, 7, ("x",))), Verdict.INCONCLUSIVE, 2),
        (replace(clean(), scopes=(Scope("s", "p", 100, 99, 0, 1),)), Verdict.INCONCLUSIVE, 2),
        (replace(clean(), scopes=(Scope("s", "p", 100, 99, 0, 1),), min_coverage=0.99), Verdict.CLEAN, 0),
        (replace(clean(), findings=(Finding(Kind.UNVERIFIED, "s", "", None, "stuck"),)), Verdict.INCONCLUSIVE, 2),
        (replace(clean(), findings=(Finding(Kind.EXPIRED_IGNORE, "s", "", None, "old"),)), Verdict.DRIFT, 1),
    ],
)
def test_drift_comes_before_inconclusive_and_inconclusive_before_clean(
    report: Report, verdict: Verdict, exit_code: int
) -> None:
    assert (report.verdict, report.exit_code) == (verdict, exit_code)


@pytest.mark.parametrize("report", [clean(), drifting()])
@pytest.mark.parametrize("form", ["text", "json", "junit"])
def test_every_form_says_the_verdict_and_the_position(report: Report, form: str) -> None:
    told = render(report, form)
    assert str(report.last_position) in told
    if form != "junit":
        assert report.verdict.value in told.lower()


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'pdf'.*text, json, junit"):
        render(clean(), "pdf")


def test_text_fits_its_width_and_has_no_colours_unless_asked() -> None:
    told = render(drifting(), "text", width=80)
    assert max(map(len, told.splitlines())) <= 80
    assert "\x1b" not in told
    assert "\x1b" in render(drifting(), "text", width=80, color=True)


def test_text_tells_both_values_and_the_worst_first() -> None:
    told = render(drifting(), "text")
    assert told.index("missing in log") < told.index("value differs") < told.index("in doubt")
    assert '{"title":"A & B"}' in told
    assert "and 2 more fields" in told
    assert "found 7 of 8 planted faults" in told
    assert "cannot be read" in told


def test_text_shows_the_worst_of_many_and_says_how_many_are_left() -> None:
    many = tuple(Finding(Kind.UNVERIFIED, "s", f"k{number}", None, "busy") for number in range(40))
    told = render(replace(clean(), findings=many), "text")
    assert "and 28 more" in told


def test_json_tells_null_from_absent_and_names_its_version() -> None:
    told = json.decode(render(drifting(), "json"))
    assert told["schema"] == "changeover.reconcile/1"
    assert (told["verdict"], told["exit_code"]) == ("drift", 1)
    missing, differs, _ = told["findings"]
    assert "log" not in missing["differences"][0]
    assert differs["differences"][0] == {"path": "meta[0]", "steps": ["meta", 0], "legacy": None, "log": 0}
    assert told["coverage"]["exact"] == 9


def test_junit_counts_drift_as_failures_and_open_questions_as_skipped() -> None:
    parsed = JUnitXml.fromstring(render(drifting(), "junit").encode())
    assert isinstance(parsed, JUnitXml)
    suites = {suite.name: suite for suite in parsed if isinstance(suite, TestSuite)}
    assert (suites["sessions.session"].failures, suites["sessions.session"].skipped) == (2, 1)
    assert suites["changeover.reconcile"].errors == 2
    assert (parsed.failures, parsed.errors) == (2, 2)


def test_junit_of_a_clean_run_has_no_failure() -> None:
    parsed = JUnitXml.fromstring(render(clean(), "junit").encode())
    assert (parsed.failures, parsed.errors, parsed.tests) == (0, 0, 2)


def test_every_format_there_is_can_be_rendered() -> None:
    for form in FORMATS:
        assert render(drifting(), form)
