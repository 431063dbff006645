"""The documents name only tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")
"""A file or folder of tests, perhaps with the name of one of its tests."""


def names_in(path: Path) -> set[str]:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    for path, name in NAMED.findall(page.read_text()):
        assert (ROOT / path).exists(), path
        if name:
            assert name in names_in(ROOT / path), f"{path}::{name}"


def test_every_promise_names_its_tests() -> None:
    page = (ROOT / "docs" / "guarantees.md").read_text()
    promised = [
        line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ") and "promise" not in line
    ]
    shown = {heading.lower(): NAMED.findall(section) for heading, section in re.findall(r"## (.+)\n([^#]+)", page)}

    for promise in promised:
        assert shown[promise.replace("*", "").lower()], promise
