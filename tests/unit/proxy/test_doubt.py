"""What is in doubt is seen through to its end, and takes nothing that another call has made."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from proxy.creations import Creations
from proxy.doubt import Doubts, Left
from proxy.reading import Found, LegacyReader
from shadow.contract import Entity, parse
from shadow.events import Draft, Effect, EntityKey
from shadow.journal import ANSWERED, NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from tests.support.facts import draft, intent

CONTRACT = parse(
    """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
list = { query = "note.list", input = "{}", items = "output" }
key = "item.id"
fields = ["text"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'notes'"
data = "{'text': input.text}"

[mutation."note.put"]
entity = "note"
key = "input.id"
effect = "put"
event = "note-put"
channel = "'notes'"
data = "{'text': input.text}"
""",
    "notes.toml",
)
ENDED = ANSWERED + "INTERNAL_SERVER_ERROR"
NOTE = EntityKey("note", "n")


@dataclass
class Shown:
    """A legacy that shows these notes."""

    notes: dict[str, dict[str, Json]] = field(default_factory=dict)

    async def one(self, entity: Entity, key: str) -> Found | None:
        fields = self.notes.get(key)
        return None if fields is None else Found(key, fields, {"id": key, **fields})

    async def all(self, entity: Entity) -> AsyncIterator[Found]:
        for key, fields in self.notes.items():
            yield Found(key, fields, {"id": key, **fields})


@dataclass
class Scene:
    """A resolver before a legacy, with a real log."""

    log: Log
    legacy: Shown
    locks: EntityLocks
    creations: Creations
    doubts: Doubts

    async def begin(self, procedure: str, given: dict[str, Any], key: EntityKey | None = None) -> int:
        asked: NewIntent = intent(key, procedure=f"note.{procedure}", phase="notes", input=given)
        return (await self.log.begin([asked]))[0]

    def outcome(self, id: int) -> Outcome:
        found = self.log.intent(id)
        assert found is not None
        return found.outcome


@pytest.fixture(name="scene")
async def _scene(tmp_path: Path) -> AsyncIterator[Scene]:
    log, legacy, locks, creations = Log.open(f"sqlite:///{tmp_path / 'log.db'}"), Shown(), EntityLocks(), Creations()
    numbers = itertools.count()
    doubts = Doubts(
        contract=CONTRACT,
        log=log,
        reader=cast("LegacyReader", legacy),
        locks=locks,
        creations=creations,
        keys_of=log.keys,
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(numbers)}",
    )
    yield Scene(log, legacy, locks, creations, doubts)
    await doubts.close()
    await log.close()


async def test_a_doubt_that_the_log_took_late_is_a_doubt_still(scene: Scene) -> None:
    """Only the log was in the way of writing that it is in doubt; what became of the call is yet to be found out."""
    number = await scene.begin("put", {"id": "n", "text": "a"}, NOTE)
    scene.legacy.notes["n"] = {"text": "a"}
    assert scene.locks.take_free([NOTE])
    late = Settlement(number, Outcome.IN_DOUBT, 1, detail=ENDED)
    seen = scene.doubts.leave(Left(number, "note.put", "notes", 1, ENDED, (NOTE,), owed=late))
    await seen.wait()

    assert scene.outcome(number) is not Outcome.IN_DOUBT
    state = scene.log.state(NOTE)
    assert state is not None
    assert state.fields == {"text": "a"}


async def test_what_is_owed_to_a_create_that_was_acknowledged_is_not_given_to_another(scene: Scene) -> None:
    """The log has not heard of its note, so the note looks as if anybody could have made it."""
    acknowledged = await scene.begin("create", {"text": "a"})
    other = await scene.begin("create", {"text": "a"})
    scene.legacy.notes["n"] = {"text": "a"}
    made: Draft = draft("made", NOTE, Effect.CREATE, text="a")
    owed = Settlement(acknowledged, Outcome.APPLIED, 1, (made,))
    open_log, closed = scene.log.settle, asyncio.Event()

    async def settle(settlements: Any) -> Any:
        if owed in settlements:
            await closed.wait()
        return await open_log(settlements)

    scene.log.settle = settle  # type: ignore[method-assign]
    first = scene.creations.begin({"note"})
    second = scene.creations.begin({"note"})
    scene.doubts.leave(Left(acknowledged, "note.create", "notes", 1, "", (), first, owed))
    seen = scene.doubts.leave(Left(other, "note.create", "notes", 1, ENDED, (), second))
    await asyncio.sleep(0.2)
    closed.set()
    await seen.wait()

    assert scene.outcome(other) is Outcome.NOT_APPLIED
    assert [event.draft.id for event in scene.log.read(("*",), 0, 10)] == ["made"]


async def test_what_a_call_in_doubt_has_named_is_not_given_to_a_create(scene: Scene) -> None:
    put = await scene.begin("put", {"id": "n", "text": "a"}, NOTE)
    create = await scene.begin("create", {"text": "a"})
    scene.legacy.notes["n"] = {"text": "a"}
    assert scene.locks.take_free([NOTE])
    seen = scene.doubts.leave(Left(create, "note.create", "notes", 1, ENDED, (), scene.creations.begin({"note"})))
    also = scene.doubts.leave(Left(put, "note.put", "notes", 1, ENDED, (NOTE,)))
    await seen.wait()
    await also.wait()

    assert scene.outcome(create) is Outcome.NOT_APPLIED
    (event,) = scene.log.read(("*",), 0, 10)
    assert (event.draft.cause or "").endswith(f":{put}")
