"""Whoever asks what became of a call sees nothing that is merely under way, and everything that there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from proxy.births import Candidate
from proxy.creations import Creations
from proxy.inquiry import Inquiry, MovedOn
from proxy.reading import Found, LegacyReader
from proxy.verdict import CannotTell
from shadow.contract import Contract, Entity, parse
from shadow.events import EntityKey
from shadow.journal import Outcome, Settlement
from shadow.json import Json
from shadow.log import Log
from tests.support.doubts import in_doubt
from tests.support.facts import draft, intent

CONTRACT: Contract = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note", "line", "blind"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
list = { query = "note.list", input = "{}", items = "output.notes", lacks = ["b"] }
key = "item.id"
fields = ["a", "b"]

[entity.line]
list = { query = "line.list", input = "{}", items = "output.lines", lacks = ["b"] }
key = "item.id"
fields = ["a", "b"]

[entity.blind]
key = "item.id"
fields = ["a"]

[mutation."note.edit"]
entity = "note"
key = "input.id"
effect = "patch"
event = "note-edited"
channel = "'notes'"
data = "{'a': input.a}"

[mutation."line.edit"]
entity = "line"
key = "input.id"
effect = "patch"
event = "line-edited"
channel = "'lines'"
data = "{'a': input.a}"
""",
    "notes.toml",
)
NOTE, LINE = CONTRACT.entities["note"], CONTRACT.entities["line"]


@dataclass
class Shown:
    """A legacy that shows these entities."""

    items: dict[str, dict[str, Json]] = field(default_factory=dict)

    async def one(self, entity: Entity, key: str) -> Found | None:
        item = self.items.get(key)
        return None if item is None else Found(key, item, item)

    async def all(self, entity: Entity) -> AsyncIterator[Found]:
        for key, item in self.items.items():
            yield Found(key, {"a": item["a"]}, item)


@pytest.fixture(name="log")
async def _log(tmp_path: Path) -> AsyncIterator[Log]:
    log = Log.open(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    await log.close()


@pytest.fixture(name="shown")
def _shown() -> Shown:
    return Shown({"n": {"a": 1, "b": 2}})


@pytest.fixture(name="inquiry")
def _inquiry(log: Log, shown: Shown) -> Inquiry:
    return Inquiry(CONTRACT, log, cast("LegacyReader", shown), Creations())


async def test_a_stranger_is_what_the_legacy_shows_and_the_log_does_not_know(inquiry: Inquiry, shown: Shown) -> None:
    shown.items["known"] = {"a": 1}
    await inquiry.log.append([draft("event-1", EntityKey("note", "known"), a=1)])

    assert [one.key for one in await inquiry.strangers(NOTE)] == ["n"]


async def test_what_a_create_under_way_has_made_is_no_stranger(inquiry: Inquiry) -> None:
    """It is listed before its event is in the log: who looks waits until the create has ended, and asks again."""
    creation = inquiry.creations.begin(["note"])
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(inquiry.strangers(NOTE))
        await asyncio.sleep(0)
        await inquiry.log.append([draft("event-1", EntityKey("note", "n"), a=1)])
        creation.end()

    assert looking.result() == []


async def test_what_waits_in_the_spool_is_no_stranger(log: Log, shown: Shown) -> None:
    async def caught_up() -> None:
        await log.append([draft("event-1", EntityKey("note", "n"), a=1)])

    inquiry = Inquiry(CONTRACT, log, cast("LegacyReader", shown), Creations(), caught_up=caught_up)

    assert await inquiry.strangers(NOTE) == []


async def test_a_listed_entity_is_read_whole(inquiry: Inquiry, shown: Shown) -> None:
    listed = Candidate("n", {"a": 1}, {"id": "n"})

    assert (await inquiry.whole(NOTE, listed)).fields == {"a": 1, "b": 2}
    assert await inquiry.whole(LINE, listed) is listed, "what has no single read is all there is"
    del shown.items["n"]
    with pytest.raises(MovedOn):
        await inquiry.whole(NOTE, listed)


async def test_a_look_says_what_the_read_cannot_show(inquiry: Inquiry) -> None:
    note = await inquiry.look(inquiry.case_of(in_doubt("note.edit", {"id": "n", "a": 3})), EntityKey("note", "n"))
    line = await inquiry.look(inquiry.case_of(in_doubt("line.edit", {"id": "n", "a": 3})), EntityKey("line", "n"))

    assert (note.found, note.shown) == ({"a": 1, "b": 2}, frozenset({"a", "b"}))
    assert line.shown == frozenset({"a"})
    assert not note.known


async def test_a_look_compares_with_the_state_and_the_state_that_the_call_leads_to(inquiry: Inquiry) -> None:
    key = EntityKey("note", "n")
    await inquiry.log.append([draft("event-1", key, a=1)])
    look = await inquiry.look(inquiry.case_of(in_doubt("note.edit", {"id": "n", "a": 3})), key)

    assert (look.before, look.predicted, look.known) == ({"a": 1}, {"a": 3}, True)


async def test_a_call_is_superseded_by_the_event_of_a_later_one(inquiry: Inquiry) -> None:
    key = EntityKey("note", "n")
    (first, second) = await inquiry.log.begin([intent(key), intent(key, index=1)])
    event = replace(draft("event-1", key, a=1), cause=f"intent:{second}")
    await inquiry.log.settle([Settlement(second, Outcome.APPLIED, 1, (event,))])

    assert inquiry.superseded(in_doubt("note.edit", {}, id=first), key)
    assert not inquiry.superseded(in_doubt("note.edit", {}, id=second), key)
    assert not inquiry.superseded(in_doubt("note.edit", {}, id=first), EntityKey("note", "other"))


async def test_the_other_calls_of_a_request_on_an_entity_are_those_of_which_nobody_knows_either(
    inquiry: Inquiry,
) -> None:
    key = EntityKey("note", "n")
    given = {"procedure": "note.edit", "phase": "notes", "input": {"id": "n", "a": 1}}
    elsewhere = {**given, "input": {"id": "other", "a": 1}}
    ids = await inquiry.log.begin([intent(key, index=index, **given) for index in range(3)])
    await inquiry.log.begin([intent(key, index=3, **elsewhere), intent(key, **{**given, "request": "another"})])
    await inquiry.log.settle([Settlement(ids[1], Outcome.NOT_APPLIED, 1)])
    mine = inquiry.log.intent(ids[0])
    assert mine is not None

    assert [other.intent.id for other in inquiry.others(mine, key, lambda kind: ())] == [ids[2]]


def test_what_the_contract_no_longer_says_cannot_be_told(inquiry: Inquiry) -> None:
    with pytest.raises(CannotTell, match="no_rule"):
        inquiry.case_of(in_doubt("note.gone", {}))


@pytest.mark.parametrize(("kind", "readable"), [("note", True), ("line", True), ("blind", False)])
def test_an_entity_is_readable_where_the_contract_says_how(inquiry: Inquiry, kind: str, readable: bool) -> None:
    assert inquiry.readable(EntityKey(kind, "n")) is readable
