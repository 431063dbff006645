"""The documents say what the code does."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from reconcile.compare import Kind
from reconcile.faults import CATALOGUE
from reconcile.report import Report
from reconcile.report.json import as_json
from shadow import json
from tests.support.reports import clean, drifting

DOCS = Path(__file__).parents[4] / "docs"


@pytest.mark.parametrize("report", [clean(), clean(0), drifting()])
def test_every_report_has_the_documented_form(report: Report) -> None:
    schema = json.decode((DOCS / "reconcile-report.schema.json").read_bytes())
    jsonschema_rs.validate(schema, json.decode(json.encode(as_json(report))))


def test_every_fault_and_every_class_has_its_row() -> None:
    page = (DOCS / "detection.md").read_text()
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in CATALOGUE] == list(CATALOGUE)
    assert [row for row in rows if row.strip("`") in set(Kind)] == [f"`{kind.value}`" for kind in Kind]
