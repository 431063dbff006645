"""The report as one HTML page that needs nothing else: differences side by side, and the trend over kept runs.

The page loads nothing and runs nothing (it says so in its content security policy); it can be kept as evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

import msgspec

from reconcile.compare import ABSENT, Difference, Finding, Side
from reconcile.compare import render as path_text
from reconcile.report import Point, Report, Verdict
from shadow import json

STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--bad:#c0392b;--good:#1e8449;--open:#b9770e}
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h1 b{padding:.1em .5em;border-radius:.3em;color:#fff}
.clean h1 b{background:var(--good)}.drift h1 b{background:var(--bad)}.inconclusive h1 b{background:var(--open)}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{border-bottom:1px solid var(--line);padding:.3rem .5rem;
text-align:left;vertical-align:top}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
article{border:1px solid var(--line);border-radius:.4rem;padding:.6rem 1rem;margin:1rem 0}
article.drift{border-left:.3rem solid var(--bad)}article.open{border-left:.3rem solid var(--open)}
article h3{margin:.1rem 0;font-size:1rem}pre{margin:0;white-space:pre-wrap;word-break:break-word;font-size:.85rem}
table.sides{table-layout:fixed}table.sides th:first-child{width:22%}
td.legacy{background:#1e844918}td.log{background:#c0392b18}
.known{font-size:.85rem;opacity:.8}svg{width:100%;height:6rem}figure{margin:1rem 0}figcaption{font-size:.85rem}
"""
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report, trend: Sequence[Point] = ()) -> str:
    """Return the page; `trend` holds the kept runs, oldest first, this one among them or not."""
    return "\n".join(_page(report, trend)) + "\n"


def _page(report: Report, trend: Sequence[Point]) -> Iterator[str]:
    verdict = report.verdict
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
    yield f"<title>Reconcile: {verdict.value}</title><style>{STYLE}</style></head>"
    yield f'<body class="{verdict.value}"><h1>Reconcile: <b>{verdict.value}</b></h1>'
    yield from _summary(report)
    yield from _scopes(report)
    if len(trend) > 1:
        yield from _trend(trend)
    for finding in report.findings:
        yield from _finding(finding)
    yield "</body></html>"


def _summary(report: Report) -> Iterator[str]:
    day = datetime.fromtimestamp(report.finished / 1000, UTC).isoformat(timespec="seconds")
    yield f"<p>{report.exact} of {report.planned} entities compared exactly ({report.coverage:.2%}), at positions "
    yield f"{report.first_position} to {report.last_position} of log <code>{escape(report.epoch)}</code>. "
    yield f"Legacy {escape(report.legacy)}, contract <code>{escape(report.contract[:12])}</code>, finished {day}.</p>"
    if report.bound is not None:
        yield f"<p>Nothing found: with 95 % confidence at most {report.bound:.2%} of all entities differ.</p>"
    if report.self_test is not None:
        test = report.self_test
        missed = f" Missed: {escape(', '.join(test.missed))}." if test.missed else ""
        yield f"<p>Self-test: found {test.found} of {test.planted} planted faults.{missed}</p>"


def _scopes(report: Report) -> Iterator[str]:
    yield "<table><thead><tr><th>entity<th>phase"
    yield "".join(f'<th class="n">{name}' for name in ("planned", "equal", "differ", "unverified"))
    yield "<th>note</thead><tbody>"
    for scope in report.scopes:
        counts = (scope.planned, scope.matched, scope.differing, scope.unverified)
        yield f"<tr><td>{escape(scope.entity)}<td>{escape(scope.phase)}"
        yield "".join(f'<td class="n">{count}' for count in counts)
        yield f"<td>{escape('; '.join(scope.remarks))}"
    yield "</tbody></table>"


def _trend(trend: Sequence[Point]) -> Iterator[str]:
    """Draw the share of differing entities, a dot for each run, coloured by its verdict."""
    shares = [point.differing / point.exact if point.exact else 0.0 for point in trend]
    top = max(*shares, 0.0001)
    colours = {Verdict.CLEAN: "#1e8449", Verdict.DRIFT: "#c0392b", Verdict.INCONCLUSIVE: "#b9770e"}
    places = [(20 + 760 * index / (len(trend) - 1), 90 - 75 * share / top) for index, share in enumerate(shares)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    yield '<figure><svg viewBox="0 0 800 100" role="img" aria-label="share of differing entities, run by run">'
    yield '<line x1="20" y1="90" x2="780" y2="90" stroke="#8888"/>'
    yield f'<polyline points="{line}" fill="none" stroke="#8888"/>'
    for point, share, (x, y) in zip(trend, shares, places, strict=True):
        day = datetime.fromtimestamp(point.finished / 1000, UTC).isoformat(timespec="minutes")
        title = f"{day}: {point.verdict.value}, {point.differing} differ ({share:.2%}), coverage {point.coverage:.2%}"
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colours[point.verdict]}"><title>{title}</title></circle>'
    yield f"</svg><figcaption>Share of differing entities over {len(trend)} kept runs; the top is {top:.2%}."
    yield "</figcaption></figure>"


def _finding(finding: Finding) -> Iterator[str]:
    kind = finding.kind.value.replace("_", " ")
    at = f" at position {finding.position}" if finding.position is not None else ""
    yield f'<article class="{"drift" if finding.drift else "open"}">'
    yield f"<h3>{escape(kind)}: {escape(finding.entity)} <code>{escape(finding.key)}</code>{at}</h3>"
    yield f"<p>{escape(finding.message)}</p>"
    if finding.differences:
        yield '<table class="sides"><thead><tr><th>field<th>legacy<th>log</thead><tbody>'
        for difference in finding.differences:
            yield _row(difference)
        yield "</tbody></table>"
    if finding.first_divergence is not None:
        yield f"<p>The sides part after the event at position {finding.first_divergence}.</p>"
    if finding.events or finding.intents:
        yield f'<p class="known">{"<br>".join(map(escape, (*finding.events, *finding.intents)))}</p>'
    yield "</article>"


def _row(difference: Difference) -> str:
    sides = (("legacy", difference.legacy), ("log", difference.log))
    cells = "".join(f'<td class="{name}"><pre>{escape(_side(side))}</pre>' for name, side in sides)
    return f"<tr><th>{escape(path_text(difference.path))}{cells}"


def _side(side: Side) -> str:
    return "absent" if side is ABSENT else msgspec.json.format(json.encode(side), indent=2).decode()
