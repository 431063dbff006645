"""What `changeover contract` says and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from changeover.cli import app
from changeover.errors import UserError
from shadow import json
from shadow.contract import parse
from shadow.journal import NewIntent
from shadow.log import Log

EXAMPLE = Path(__file__).parents[3] / "examples" / "contract.toml"


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["contract", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_a_valid_contract_passes_and_its_warnings_are_told() -> None:
    output = run("check", str(EXAMPLE))

    assert "warning: " in output
    assert "entity.message: has no `list`" in output
    assert "valid" in output


def test_warnings_fail_a_strict_check() -> None:
    run("check", "--strict", str(EXAMPLE), code=1)


def test_machines_get_warnings_too() -> None:
    facts = json.decode(run("check", "--json", str(EXAMPLE)))

    assert facts["valid"] is True
    assert {warning["key"] for warning in facts["warnings"]} == {"entity.message"}


def test_every_mistake_is_told(tmp_path: Path) -> None:
    file = tmp_path / "contract.toml"
    file.write_text(EXAMPLE.read_text("utf-8").replace('effect = "patch"', 'efect = "patch"'))

    output = run("check", str(file), code=1)

    assert "unknown key (did you mean 'effect'?)" in output
    assert "mistake(s)" in output


async def test_a_first_contract_is_drafted_from_the_journal(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'log.db'}"
    log = Log.open(database)
    call = {"sessionId": "a-value", "title": "another value"}
    await log.begin([NewIntent("r1", 0, "session.updateTitle", None, 0, None, call, None, 1, 2)])
    await log.close()

    text = run("draft", "--database", database)

    assert set(parse(text, "draft.toml").mutations) == {"session.updateTitle"}
    assert "value" not in text


def test_a_first_contract_is_drafted_from_a_file_of_calls(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    session = {"id": "s1", "model": "m"}
    calls = [
        {"procedure": "session.create", "kind": "mutation", "input": {"model": "m"}, "output": session},
        {"procedure": "session.list", "kind": "query", "output": [session]},
    ]
    file.write_bytes(b"\n".join(map(json.encode, calls)))

    contract = parse(run("draft", "--samples", str(file)), "draft.toml")

    listing = contract.entities["session"].list
    assert listing is not None
    assert listing.query == "session.list"


def test_a_file_of_calls_is_read_strictly(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_text('{"procedure": "a.b", "kind": "mutation"}\n{"procedure": 1}\n')

    with pytest.raises(UserError, match=r"calls.jsonl:2: Expected `str`, got `int`"):
        CliRunner().invoke(app, ["contract", "draft", "--samples", str(file)], catch_exceptions=False)
