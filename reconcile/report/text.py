"""The report for the terminal: the verdict first, then the worst findings, one screen."""

from __future__ import annotations

from io import StringIO
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from reconcile.compare import Finding, shown
from reconcile.compare import render as path_text
from reconcile.report import Report, Verdict

MOST: Final = 12
"""How many findings fit on a screen."""
SIDES: Final = 4
"""How many differing fields of one entity are shown."""
COLORS: Final = {Verdict.CLEAN: "bold green", Verdict.DRIFT: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def render(report: Report, *, width: int, color: bool) -> str:
    """Return the report as text of at most `width` columns, with terminal colours only if asked."""
    console = Console(
        file=StringIO(), width=width, force_terminal=color, no_color=not color, highlight=False, legacy_windows=False
    )
    console.print(_headline(report))
    console.print(_scopes(report))
    for finding in report.findings[:MOST]:
        console.print(_finding(finding))
    if (more := len(report.findings) - MOST) > 0:
        console.print(Text(f"… and {more} more; --format json has them all"))
    for line in _footing(report):
        console.print(Text(line, style="dim"))
    text = console.file
    assert isinstance(text, StringIO)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _headline(report: Report) -> Text:
    said = {
        Verdict.CLEAN: "CLEAN: the log and the legacy say the same",
        Verdict.DRIFT: f"DRIFT: {report.differing} of {report.exact} entities differ",
        Verdict.INCONCLUSIVE: "INCONCLUSIVE: nothing is proven either way",
    }[report.verdict]
    if report.verdict is Verdict.DRIFT and not report.differing:
        said = "DRIFT: a rule of the run is broken"
    at = f"position {report.last_position}"
    if report.first_position != report.last_position:
        at = f"positions {report.first_position} to {report.last_position}"
    return Text.assemble((said, COLORS[report.verdict]), f", compared at {at} of log {report.epoch}")


def _scopes(report: Report) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("entity")
    table.add_column("phase")
    for name in ("planned", "equal", "differ", "unverified"):
        table.add_column(name, justify="right")
    table.add_column("note")
    for scope in report.scopes:
        counts = (scope.planned, scope.matched, scope.differing, scope.unverified)
        table.add_row(scope.entity, scope.phase, *map(str, counts), Text("; ".join(scope.remarks)))
    return table


def _finding(finding: Finding) -> Text:
    style = "red" if finding.drift else "yellow"
    text = Text.assemble("\n", (finding.kind.value.replace("_", " "), style), f"  {finding.entity} {finding.key}")
    if finding.position is not None:
        text.append(f"  @{finding.position}", style="dim")
    text.append(f"\n  {finding.message}")
    for difference in finding.differences[:SIDES]:
        text.append(f"\n  {path_text(difference.path)}")
        text.append(f"\n      legacy  {shown(difference.legacy, 80)}", style="green")
        text.append(f"\n      log     {shown(difference.log, 80)}", style="red")
    if (more := len(finding.differences) - SIDES) > 0:
        text.append(f"\n  … and {more} more fields")
    if finding.first_divergence is not None:
        text.append(f"\n  the sides part after the event at position {finding.first_divergence}")
    for line in (*finding.events[:2], *finding.intents[:2]):
        text.append(f"\n  {line}", style="dim")
    return text


def _footing(report: Report) -> list[str]:
    share = f"coverage {report.coverage:.2%} ({report.exact} of {report.planned} compared exactly)"
    if report.sampled:
        share += f", a random sample (seed {report.seed})"
    lines = ["", share]
    if report.bound is not None and (report.sampled or report.coverage < 1):
        lines.append(f"nothing found: with 95 % confidence at most {report.bound:.2%} of all entities differ")
    if report.self_test is not None:
        test = report.self_test
        lines.append(f"self-test: found {test.found} of {test.planted} planted faults ({test.recall:.0%})")
        lines += [f"  missed: {name}" for name in test.missed]
    seconds = (report.finished - report.started) / 1000
    lines.append(f"{report.requests} requests to {report.legacy} in {seconds:.1f} s; run {report.id}")
    return lines
