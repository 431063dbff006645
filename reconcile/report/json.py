"""The report for machines. The form is described in docs/reconcile-report.md and changes only with its version."""

from __future__ import annotations

from typing import Final

import msgspec

from reconcile.compare import ABSENT, Difference, Finding
from reconcile.compare import render as path_text
from reconcile.report import Report, Scope, SelfTest
from shadow import json
from shadow.json import Json

VERSION: Final = 1
"""Raised when a reader of the former version would be misled; new members alone do not raise it."""


def render(report: Report) -> str:
    """Return the report as JSON text, indented for people who look anyway."""
    return msgspec.json.format(json.encode(as_json(report)), indent=2).decode() + "\n"


def as_json(report: Report) -> dict[str, Json]:
    """Return the report as JSON values."""
    return {
        "schema": f"changeover.reconcile/{VERSION}",
        "id": report.id,
        "verdict": report.verdict.value,
        "exit_code": report.exit_code,
        "started": report.started,
        "finished": report.finished,
        "legacy": report.legacy,
        "contract": report.contract,
        "log": {
            "epoch": report.epoch,
            "first_position": report.first_position,
            "last_position": report.last_position,
        },
        "coverage": {
            "planned": report.planned,
            "exact": report.exact,
            "differing": report.differing,
            "share": report.coverage,
            "minimum": report.min_coverage,
            "sampled": report.sampled,
            "narrowed": report.narrowed,
            "seed": report.seed if report.sampled else None,
            "bound_95": report.bound,
        },
        "requests": report.requests,
        "fail_on": sorted(kind.value for kind in report.fail_on),
        "self_test": None if report.self_test is None else _self_test(report.self_test),
        "scopes": [_scope(scope) for scope in report.scopes],
        "findings": [_finding(finding) for finding in report.findings],
    }


def _self_test(test: SelfTest) -> Json:
    return {"planted": test.planted, "found": test.found, "recall": test.recall, "missed": list(test.missed)}


def _scope(scope: Scope) -> Json:
    return {
        "entity": scope.entity,
        "phase": scope.phase,
        "planned": scope.planned,
        "matched": scope.matched,
        "differing": scope.differing,
        "unverified": scope.unverified,
        "ignored": dict(scope.ignored),
        "volatile": dict(scope.volatile),
        "learnt": list(scope.learnt),
        "note": scope.note,
    }


def _finding(finding: Finding) -> Json:
    return {
        "kind": finding.kind.value,
        "drift": finding.drift,
        "entity": finding.entity,
        "key": finding.key,
        "position": finding.position,
        "message": finding.message,
        "differences": [_difference(one) for one in finding.differences],
        "first_divergence": finding.first_divergence,
        "events": list(finding.events),
        "intents": list(finding.intents),
    }


def _difference(difference: Difference) -> Json:
    """Return one difference; a side that has nothing there lacks its member, for null is a value."""
    sides = {"legacy": difference.legacy, "log": difference.log}
    return {
        "path": path_text(difference.path),
        "steps": list(difference.path),
        **{name: side for name, side in sides.items() if side is not ABSENT},
    }
