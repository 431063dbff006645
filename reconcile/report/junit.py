"""The report as JUnit XML: a test case for each finding and one for each kind of entity, as CI systems show them."""

from __future__ import annotations

from collections.abc import Iterable

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from reconcile.compare import Finding
from reconcile.report import Report, Scope, Verdict


def render(report: Report) -> str:
    """Return the report as JUnit XML. Drift is a failure, an open question is skipped, a blind detector an error."""
    xml = JUnitXml("changeover reconcile")
    for scope in report.scopes:
        xml.add_testsuite(_suite(report, scope))
    xml.add_testsuite(_whole(report))
    xml.update_statistics()  # type: ignore[no-untyped-call]
    return bytes(xml.tostring()).decode()  # type: ignore[no-untyped-call]


def _suite(report: Report, scope: Scope) -> TestSuite:
    suite = TestSuite(f"{scope.phase}.{scope.entity}")
    suite.add_property("position", str(report.last_position))
    suite.add_property("planned", str(scope.planned))
    suite.add_property("exact", str(scope.exact))
    findings = [finding for finding in report.findings if finding.entity == scope.entity]
    for finding in findings:
        suite.add_testcase(_case(report, finding))
    if not findings:
        suite.add_testcase(TestCase(f"{scope.matched} of {scope.planned} equal", scope.entity))
    return suite


def _case(report: Report, finding: Finding) -> TestCase:
    case = TestCase(f"{finding.key or '(all)'}: {finding.kind.value}", finding.entity)
    text = "\n".join(_lines(finding))
    if finding.kind in report.fail_on:
        case.result = [Failure(finding.message, finding.kind.value)]
        case.result[0].text = text
    else:
        case.result = [Skipped(finding.message, finding.kind.value)]
    return case


def _lines(finding: Finding) -> Iterable[str]:
    yield from map(str, finding.differences)
    if finding.position is not None:
        yield f"compared at position {finding.position}"
    yield from finding.events
    yield from finding.intents


def _whole(report: Report) -> TestSuite:
    suite = TestSuite("changeover.reconcile")
    coverage = TestCase(f"coverage {report.coverage:.2%}", "run")
    if report.coverage < report.min_coverage:
        coverage.result = [Error(f"below {report.min_coverage:.2%}: the run is inconclusive", Verdict.INCONCLUSIVE)]
    suite.add_testcase(coverage)
    if report.self_test is not None:
        test = report.self_test
        case = TestCase(f"the detector found {test.found} of {test.planted} planted faults", "run")
        if test.missed:
            case.result = [Error(f"missed: {', '.join(test.missed)}", Verdict.INCONCLUSIVE)]
        suite.add_testcase(case)
    return suite
