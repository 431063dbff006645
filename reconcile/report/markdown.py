"""The report as Markdown, for a pull request or the summary of a CI step."""

from __future__ import annotations

from typing import Final

from reconcile.compare import Finding, shown
from reconcile.compare import render as path_text
from reconcile.report import Report, Verdict

MOST: Final = 25
SIGNS: Final = {Verdict.CLEAN: "✅", Verdict.DRIFT: "❌", Verdict.INCONCLUSIVE: "⚠️"}


def render(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown."""
    lines = [f"### {SIGNS[report.verdict]} Reconcile: {report.verdict.value}", "", _summary(report), ""]
    lines += ["| entity | phase | planned | equal | differ | unverified | note |", "|---|---|--:|--:|--:|--:|---|"]
    for scope in report.scopes:
        counts = (scope.planned, scope.matched, scope.differing, scope.unverified)
        cells = [scope.entity, scope.phase, *map(str, counts), "; ".join(scope.remarks)]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    for finding in report.findings[:MOST]:
        lines += ["", *_finding(finding)]
    if (more := len(report.findings) - MOST) > 0:
        lines += ["", f"… and {more} more findings; the JSON report has them all."]
    return "\n".join(lines) + "\n"


def _summary(report: Report) -> str:
    parts = [
        f"{report.exact} of {report.planned} entities compared exactly ({report.coverage:.2%})",
        f"at position {report.last_position} of log `{report.epoch}`",
    ]
    if report.bound is not None and (report.sampled or report.coverage < 1):
        parts.append(f"nothing found, so with 95 % confidence at most {report.bound:.2%} of all entities differ")
    if report.self_test is not None:
        parts.append(f"the detector found {report.self_test.found} of {report.self_test.planted} planted faults")
    return "; ".join(parts) + "."


def _finding(finding: Finding) -> list[str]:
    title = f"**{finding.kind.value.replace('_', ' ')}** `{_code(finding.entity)}` `{_code(finding.key)}`"
    lines = [f"{title}: {_cell(finding.message)}"]
    if finding.differences:
        lines += ["", "| field | legacy | log |", "|---|---|---|"]
        for one in finding.differences[:10]:
            cells = (path_text(one.path), shown(one.legacy), shown(one.log))
            lines.append("| " + " | ".join(f"`{_code(cell)}`" for cell in cells) + " |")
    if finding.events or finding.intents:
        known = "<br>".join(map(_cell, (*finding.events, *finding.intents)))
        lines += ["", f"<sub>{known}</sub>"]
    return lines


def _cell(text: str) -> str:
    """Keep a text inside its cell, and keep it text."""
    plain = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return plain.replace("|", "\\|").replace("\n", " ")


def _code(text: str) -> str:
    """Keep a text inside its code span; nothing in there is interpreted but these."""
    return text.replace("`", "´").replace("|", "\\|").replace("\n", " ")
