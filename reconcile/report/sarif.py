"""The report as SARIF 2.1.0, for code scanning services: one rule for each class of findings.

A finding has no line in a file; its place is the entity, as a logical location. The fingerprint is made of class,
entity, key and paths, so that a service recognises the same finding from run to run.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import Final

import msgspec

from reconcile.compare import Finding, Kind, shown
from reconcile.compare import render as path_text
from reconcile.report import Report
from shadow import json
from shadow.json import Json

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
DESCRIPTIONS: Final = {
    Kind.MISSING_IN_LOG: "The legacy has an entity that the log does not have",
    Kind.EXTRA_IN_LOG: "The log has an entity that the legacy does not have",
    Kind.VALUE_DIFFERS: "Legacy and log hold different values",
    Kind.BYPASS_WRITE: "The legacy was written without going through the proxy",
    Kind.ORDER_AMBIGUOUS: "Two calls of one batch wrote the same entity in an unknown order",
    Kind.EXPIRED_IGNORE: "An ignore rule is past its last day",
    Kind.IN_DOUBT: "Nobody knows yet whether a call was applied",
    Kind.UNVERIFIED: "No exact comparison succeeded",
}


def render(report: Report, *, contract: str = "contract.toml") -> str:
    """Return the report as SARIF; `contract` is the file that results without a file of their own are shown in."""
    return msgspec.json.format(json.encode(as_json(report, contract)), indent=2).decode() + "\n"


def as_json(report: Report, contract: str = "contract.toml") -> dict[str, Json]:
    """Return the SARIF log as JSON values."""
    kinds = list(Kind)
    driver = {
        "name": "changeover reconcile",
        "version": version("changeover"),
        "rules": [_rule(kind, failing=kind in report.fail_on) for kind in kinds],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"changeover/reconcile/{report.id}"},
        "invocations": [{"executionSuccessful": True, "exitCode": report.exit_code}],
        "results": [_result(report, finding, kinds.index(finding.kind), contract) for finding in report.findings],
        "properties": {
            "verdict": report.verdict.value,
            "position": report.last_position,
            "coverage": report.coverage,
            "contract": report.contract,
        },
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(kind: Kind, *, failing: bool) -> Json:
    return {
        "id": kind.value,
        "shortDescription": {"text": DESCRIPTIONS[kind]},
        "defaultConfiguration": {"level": "error" if failing else "note"},
    }


def _result(report: Report, finding: Finding, rule: int, contract: str) -> Json:
    lines = [f"{finding.entity} {finding.key}: {finding.message}"]
    lines += [f"{path_text(one.path)}: legacy {shown(one.legacy)}, log {shown(one.log)}" for one in finding.differences]
    name = f"{finding.entity}/{finding.key}"
    return {
        "ruleId": finding.kind.value,
        "ruleIndex": rule,
        "level": "error" if finding.kind in report.fail_on else "note",
        "message": {"text": "\n".join(lines)},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": contract}, "region": {"startLine": 1}},
                "logicalLocations": [{"name": finding.key, "fullyQualifiedName": name, "kind": "object"}],
            }
        ],
        "partialFingerprints": {"changeover/v1": _fingerprint(finding)},
        "properties": {"position": finding.position, "entity": finding.entity, "key": finding.key},
    }


def _fingerprint(finding: Finding) -> str:
    paths = [path_text(difference.path) for difference in finding.differences]
    identity = json.encode([finding.kind.value, finding.entity, finding.key, paths])
    return hashlib.sha256(identity).hexdigest()[:32]
