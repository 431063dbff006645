"""A contract file is checked as a whole; each mistake has a line, a key, a message and what to write instead."""

from __future__ import annotations

import tomllib
from datetime import date
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.contract import (
    Ask,
    ContractError,
    OnLogFailure,
    Open,
    Ordering,
    Token,
    Transformer,
    load,
    parse,
)
from shadow.events import Effect

GOOD = """\
[phase.sessions]
entities = ["session"]

[entity.session]
key = "item.id"
fields = ["title"]

[mutation."session.rename"]
entity = "session"
key = "input.id"
effect = "patch"
event = "session-renamed"
channel = "'session:' + key"
data = "{'title': input.title}"
"""
LINES = GOOD.count("\n")


def problems(text: str) -> list[str]:
    with pytest.raises(ContractError) as failure:
        parse(text, "c.toml")
    return [str(problem) for problem in failure.value.problems]


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


RENAME = 'mutation."session.rename"'


MISTAKES = tomllib.loads((Path(__file__).parent / "mistakes.toml").read_text("utf-8"))["mistake"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["says"][0][:60])
def test_each_mistake_is_told_with_its_line_and_what_to_write(mistake: dict[str, Any]) -> None:
    if "old" in mistake:
        text = swapped(mistake["old"], mistake["new"])
    else:
        text = mistake.get("text", GOOD) + mistake.get("append", "")

    assert problems(text) == mistake["says"]


def test_all_mistakes_are_told_at_once() -> None:
    text = swapped("input.title", "inptu.title").replace('effect = "patch"', 'effect = "pacth"') + "colour = 1\n"

    assert [problem.split(": ")[1] for problem in problems(text)] == [
        f"{RENAME}.effect",
        f"{RENAME}.data",
        f"{RENAME}.colour",
    ]


def test_a_mistake_that_several_events_inherit_is_told_once() -> None:
    text = swapped("input.title", "inptu.title") + 'events = [{ event = "a" }, { event = "b" }]\n'

    assert problems(text) == [
        f"c.toml:14: {RENAME}.data: in the expression at column 11: unknown name 'inptu' (did you mean 'input'?)"
    ]


def test_a_file_that_is_not_there_is_told_like_any_mistake(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="cannot be read: No such file or directory"):
        load(tmp_path / "contract.toml")


def test_a_file_that_is_not_text_is_told_like_any_mistake(tmp_path: Path) -> None:
    (tmp_path / "contract.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ContractError, match="is not UTF-8 text"):
        load(tmp_path / "contract.toml")


def test_what_is_left_out_has_a_default() -> None:
    contract = parse(GOOD, "c.toml")

    assert (contract.legacy.base_path, contract.legacy.transformer, contract.legacy.max_request) == (
        "/trpc",
        Transformer.NONE,
        30.0,
    )
    assert (contract.legacy.separator, contract.legacy.probe) == (".", True)
    assert contract.overlay.namespace == "events"
    phase = contract.phases["sessions"]
    assert (phase.ordering, phase.on_log_failure) == (Ordering.STRICT, OnLogFailure.FAIL_CLOSED)
    assert contract.phase_of("session.rename") == "sessions"
    assert contract.phase_of("session.other") is None
    assert not contract.names_secrets


def test_the_hash_is_of_what_a_contract_says_and_not_of_how_it_is_laid_out() -> None:
    commented = "# a comment\n" + GOOD.replace("key =", "key   =")

    assert parse(commented, "other.toml").hash == parse(GOOD, "c.toml").hash
    assert parse(swapped("session-renamed", "renamed"), "c.toml").hash != parse(GOOD, "c.toml").hash


def test_dates_may_be_written_as_dates_or_texts() -> None:
    rules = [
        '{ field = "title", owner = "ann", reason = "until the fix is out", expires = 2027-01-31 }',
        '{ field = "title", owner = "ann", reason = "until the fix is out", expires = "2027-01-31" }',
    ]
    contract = parse(swapped('fields = ["title"]', f'fields = ["title"]\nignore = [{", ".join(rules)}]'), "c.toml")

    first, second = contract.entities["session"].ignore
    assert first == second
    assert not first.expired(date(2027, 1, 31))
    assert first.expired(date(2027, 2, 1))


CHANNELS = dedent(
    """\
    [channel."*"]
    see = "token"
    [channel."session:*"]
    see = { query = "session.get", input = "{'id': suffix}" }
    retention = { count = 10 }
    [channel."session:lobby"]
    retention = { age = "7d" }
    publish = [{ event = "noted", required = ["text"], optional = ["by"] }]
    """
)


def test_the_most_particular_pattern_rules_a_channel() -> None:
    contract = parse(GOOD + CHANNELS, "c.toml")

    assert [channel.pattern for channel in contract.channels] == ["session:lobby", "session:*", "*"]
    lobby, session, other = (contract.channel_rules(name) for name in ("session:lobby", "session:s1", "app:x"))
    assert lobby is not None
    assert lobby.see == Open()
    assert lobby.retention.age == 604_800
    assert session is not None
    assert session.retention.count == 10
    assert other is not None
    assert other.see == Token()
    assert parse(GOOD, "c.toml").channel_rules("app:x") is None


def test_who_may_see_a_channel_is_asked_of_the_legacy() -> None:
    channel = parse(GOOD + CHANNELS, "c.toml").channel_rules("session:s1")
    assert channel is not None
    assert isinstance(channel.see, Ask)

    assert channel.see.input_for("session:s1", channel.suffix("session:s1")) == {"id": "s1"}
    assert channel.see.allowed({"id": "s1"})
    assert not channel.see.allowed(None)


def test_what_clients_publish_is_checked_by_its_fields() -> None:
    channel = parse(GOOD + CHANNELS, "c.toml").channel_rules("session:lobby")
    assert channel is not None
    (noted,) = channel.publish

    assert noted.faults({"text": "Hi", "by": "ann"}) == ()
    assert noted.faults({"type": "noted", "text": "Hi"}) == ()
    assert noted.faults({"txt": "Hi"}) == ("the field 'text' is missing", "there is no field 'txt' in a 'noted'")
    assert noted.faults("Hi") == ("the payload is no object",)


def test_the_example_contract_covers_what_the_example_api_can_change() -> None:
    contract = load(Path(__file__).parents[4] / "examples" / "contract.toml")

    assert set(contract.mutations) == {
        *(
            f"session.{name}"
            for name in ("create", "updateTitle", "updateModel", "updateProvider", "updateRules", "delete")
        ),
        "message.add",
        *(f"config.{name}" for name in ("updateProviderConfig", "removeProvider", "selectModel", "save")),
        "rules.toggle",
        "agents.select",
    }
    assert set(contract.taps) == {"message.streamResponse"}
    assert contract.names_secrets
    deletions = {
        event.type for rule in contract.mutations.values() for event in rule.events if event.effect is Effect.DELETE
    }
    assert deletions == {"session-deleted", "provider-removed"}


EXAMPLE = (Path(__file__).parents[4] / "examples" / "contract.toml").read_text("utf-8").splitlines()
VALUES = ["7", "[]", "{}", "true", '""', '"input."', "[1]", "[{}]", '["*"]']


@given(data=st.data())
def test_whatever_is_written_comes_to_a_contract_or_to_problems(data: st.DataObject) -> None:
    """However a contract is garbled, its author never sees a traceback, and each problem has a line of the file."""
    lines = list(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, equals, _value = lines[at].partition(" = ")
        garbled = [[f"{key}{equals}{value}"] for value in VALUES]
        lines[at : at + 1] = data.draw(st.sampled_from([[], [lines[at], lines[at]], ["[x]"], *garbled]))
    text = "\n".join(lines)

    try:
        parse(text, "c.toml")
        return
    except ContractError as error:
        found = error.problems

    assert found
    assert all(1 <= problem.line <= len(lines) for problem in found)
