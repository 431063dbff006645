"""What is valid, but costs something, is told as a warning."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from textwrap import dedent

import pytest

from shadow.contract import load, parse
from shadow.contract.review import review

SOUND = """\
[phase.sessions]
entities = ["session"]

[entity.session]
list = { query = "session.list" }
get = { query = "session.get", input = "{'id': key}" }
key = "item.id"
fields = ["title"]

[mutation."session.rename"]
entity = "session"
key = "input.id"
effect = "patch"
event = "session-renamed"
channel = "'session:' + key"
data = "{'title': input.title}"

[channel."session:*"]
see = "token"
"""


def warnings(text: str) -> list[str]:
    return [str(problem) for problem in review(parse(text, "c.toml"), date(2026, 11, 23))]


def test_a_sound_contract_has_no_warnings() -> None:
    assert warnings(SOUND) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'list = { query = "session.list" }\n',
            "",
            "c.toml:4: entity.session: has no `list`, so it can be neither backfilled nor compared as a whole",
        ),
        (
            'get = { query = "session.get", input = "{\'id\': key}" }\n',
            "",
            "c.toml:4: entity.session: has no `get`, so the outcome of a lost call on it can only be",
        ),
        (
            'fields = ["title"]',
            'fields = ["title", "model"]',
            "c.toml:4: entity.session: no event sets the field 'model', so it only ever comes from an import",
        ),
        (
            'fields = ["title"]',
            'fields = ["title"]\nmask = [{ field = "title", keep = 2 }]',
            "c.toml:4: entity.session: 'title' is masked by the legacy, but kept in clear",
        ),
        (
            'fields = ["title"]',
            'fields = ["title"]\nignore = [{ field = "title", owner = "ann", reason = "y", expires = 2026-11-22 }]',
            "c.toml:9: entity.session.ignore[0]: has expired on 2026-11-22: the difference counts again",
        ),
        (
            "{'title': input.title}",
            "{'titel': input.title}",
            "c.toml:10: mutation.\"session.rename\": sets none of the fields of 'session'",
        ),
        (
            'key = "input.id"',
            'key = "output.id"',
            'c.toml:10: mutation."session.rename": only its answer tells which entity it made, so when',
        ),
        (
            'see = "token"',
            'publish = [{ event = "session-renamed" }]',
            "c.toml:18: channel.\"session:*\": clients may publish 'session-renamed', which says what",
        ),
        (
            '[channel."session:*"]',
            '[channel."config:*"]',
            "c.toml:10: mutation.\"session.rename\": no channel pattern names 'session:'…, so everybody",
        ),
    ],
)
def test_what_costs_something_is_told(old: str, new: str, says: str) -> None:
    assert old in SOUND

    told = warnings(SOUND.replace(old, new))
    assert [warning for warning in told if warning.startswith(says)], told


def test_a_mutation_without_an_entity_is_told() -> None:
    text = SOUND.replace('entities = ["session"]', 'entities = ["session"]\nprocedures = ["a.b"]') + dedent(
        """
        [mutation."a.b"]
        event = "happened"
        channel = "'session:x'"
        data = "{}"
        """
    )

    (warning,) = warnings(text)
    assert warning.startswith('c.toml:22: mutation."a.b": concerns no entity: its calls have no order among themselves')


def test_of_the_example_contract_only_messages_cannot_be_compared() -> None:
    contract = load(Path(__file__).parents[4] / "examples" / "contract.toml")

    assert {problem.key for problem in review(contract, date(2026, 11, 23))} == {"entity.message"}
