"""docs/contract.md is true: its examples load, its code runs, and it names every key that the loader knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shadow.contract import ContractError, Happened, parse
from shadow.events import Effect

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "docs" / "contract.md").read_text("utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
def test_each_example_is_a_valid_contract(example: str) -> None:
    assert parse(example, "docs/contract.md").phases


@pytest.mark.parametrize(
    "table",
    [
        "[legacy]",
        "[overlay]",
        "[phase.x]",
        "[entity.x]",
        "[entity.x.list]",
        "[entity.x.get]",
        "[[entity.x.mask]]",
        "[[entity.x.ignore]]",
        "[mutation.x]",
        "[[mutation.x.events]]",
        "[mutation.x.find]",
        "[mutation.x.answer]",
        "[[mutation.x.answer.reject]]",
        "[tap.x]",
        "[channel.x]",
        "[channel.x.see]",
        "[channel.x.retention]",
        "[[channel.x.publish]]",
    ],
)
def test_every_key_that_is_possible_is_in_the_reference(table: str) -> None:
    with pytest.raises(ContractError) as failure:
        parse(f"{table}\nqqqqqqqqqqqq = 1\n", "c.toml")

    (hint,) = [problem.hint for problem in failure.value.problems if problem.message == "unknown key"]
    possible = hint.removeprefix("possible here: ").split(", ")
    assert [key for key in possible if not re.search(rf"\b{key}\b", TEXT)] == []


def test_the_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    namespace: dict[str, object] = {}
    exec(code, namespace)
    merged = namespace["merged"]
    assert callable(merged)

    (fact,) = merged(Happened({"keep": "s1", "drop": "s2"}, None, lambda key: None, 1))
    assert (fact.event, fact.key, fact.effect) == ("session-deleted", "s2", Effect.DELETE)


@pytest.mark.parametrize("cell", re.findall(r"^\| `([a-z`, ]+)` \|", TEXT, re.MULTILINE))
def test_no_key_in_the_reference_is_made_up(cell: str) -> None:
    source = "".join(path.read_text("utf-8") for path in (ROOT / "shadow" / "contract").glob("*.py"))

    for name in cell.replace("`", "").split(", "):
        assert f'"{name}"' in source
