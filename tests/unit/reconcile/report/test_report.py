"""What a report concludes, and how it is told."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import jsonschema_rs
import pytest
from junitparser import JUnitXml, TestSuite

from reconcile.compare import Difference, Finding, Kind
from reconcile.report import FORMATS, Point, Report, Scope, SelfTest, Verdict, render
from shadow import json
from tests.support.reports import STARTED, clean, drifting


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
@pytest.mark.parametrize("form", FORMATS)
def test_every_form_says_the_verdict_and_the_position(report: Report, form: str) -> None:
    told = render(report, form)
    assert str(report.last_position) in told
    if form != "junit":
        assert report.verdict.value in told.lower()


def test_an_unknown_form_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'pdf'.*text, json, junit, sarif, markdown, html"):
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


HOSTILE = "<script>alert(1)</script> | `x`"


def hostile() -> Report:
    """Names and values that whoever writes to the legacy may choose."""
    finding = Finding(
        Kind.VALUE_DIFFERS,
        "session",
        HOSTILE,
        1,
        HOSTILE,
        (Difference((HOSTILE,), HOSTILE, {"a": HOSTILE}),),
        events=(HOSTILE,),
    )
    return replace(drifting(), findings=(finding,))


class Tags(HTMLParser):
    """Collects the tags of a page and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


def test_html_runs_nothing_and_loads_nothing_whatever_the_data_say() -> None:
    points = [Point(STARTED + day * 86_400_000, Verdict.CLEAN, 100, day, 1.0) for day in range(5)]
    page = render(hostile(), "html", trend=points)
    tags = Tags()
    tags.feed(page)
    assert not tags.seen & {"script", "link", "img", "iframe", "form"}
    assert "default-src 'none'" in page or "default-src &#x27;none&#x27;" in page
    assert page.count("<circle") == 5
    assert "alert(1)" in page


def test_html_of_one_run_draws_no_trend() -> None:
    assert "<svg" not in render(clean(), "html", trend=[Point(STARTED, Verdict.CLEAN, 1, 0, 1.0)])


def test_markdown_keeps_hostile_text_in_its_cell() -> None:
    told = render(hostile(), "markdown")
    assert "<script>" not in re.sub(r"`[^`]*`", "", told)
    rows = [line for line in told.splitlines() if line.startswith("| `")]
    assert [len(re.split(r"(?<!\\)\|", row)) for row in rows] == [5]


SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {"driver": {"$ref": "#/$defs/component"}},
                        "additionalProperties": False,
                    },
                    "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
                    "automationDetails": {"type": "object", "properties": {"id": {"type": "string"}}},
                    "invocations": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["executionSuccessful"],
                            "properties": {"executionSuccessful": {"type": "boolean"}, "exitCode": {"type": "integer"}},
                            "additionalProperties": False,
                        },
                    },
                    "properties": {"type": "object"},
                },
                "additionalProperties": False,
            },
        },
    },
    "$defs": {
        "message": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
        "level": {"enum": ["none", "note", "warning", "error"]},
        "component": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "informationUri": {"type": "string", "format": "uri"},
                "rules": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {
                        "type": "object",
                        "required": ["id"],
                        "properties": {
                            "id": {"type": "string"},
                            "shortDescription": {"$ref": "#/$defs/message"},
                            "defaultConfiguration": {
                                "type": "object",
                                "properties": {"level": {"$ref": "#/$defs/level"}},
                                "additionalProperties": False,
                            },
                        },
                        "additionalProperties": False,
                    },
                },
            },
            "additionalProperties": False,
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": -1},
                "level": {"$ref": "#/$defs/level"},
                "message": {"$ref": "#/$defs/message"},
                "locations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "required": ["artifactLocation"],
                                "properties": {
                                    "artifactLocation": {"type": "object", "properties": {"uri": {"type": "string"}}},
                                    "region": {"type": "object", "properties": {"startLine": {"minimum": 1}}},
                                },
                                "additionalProperties": False,
                            },
                            "logicalLocations": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {
                                        "name": {"type": "string"},
                                        "fullyQualifiedName": {"type": "string"},
                                        "kind": {"type": "string"},
                                    },
                                    "additionalProperties": False,
                                },
                            },
                        },
                        "additionalProperties": False,
                    },
                },
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                "properties": {"type": "object"},
            },
            "additionalProperties": False,
        },
    },
}
"""The part of the SARIF 2.1.0 schema that concerns what we emit; whatever it does not name must not appear."""


@pytest.mark.parametrize("report", [clean(), drifting(), hostile()])
def test_sarif_has_the_form_that_the_standard_gives(report: Report) -> None:
    told = json.decode(render(report, "sarif", contract="examples/contract.toml"))
    jsonschema_rs.validate(SARIF, told)
    run = told["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == len(report.findings)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])


def test_sarif_recognises_a_finding_from_run_to_run_and_tells_two_apart() -> None:
    def prints(report: Report) -> list[str]:
        results = json.decode(render(report, "sarif"))["runs"][0]["results"]
        return [result["partialFingerprints"]["changeover/v1"] for result in results]

    assert prints(drifting()) == prints(replace(drifting(), id="other", last_position=99))
    assert len(set(prints(drifting()))) == len(drifting().findings)
