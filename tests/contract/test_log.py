"""What every log keeps to, on whichever database it lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shadow.events import Draft, Effect, EntityKey, Event
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.log import Log

SESSION = EntityKey("session", "s1")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    log = Log.open(url)
    yield log
    await log.close()


def draft(id: str, key: EntityKey = SESSION, effect: Effect = Effect.PUT, time: int = 1, **change: object) -> Draft:
    return Draft(id, f"{key.entity}:{key.key}", "changed", time, {"is": change}, key, effect, change)


def intent(key: EntityKey = SESSION, **other: object) -> NewIntent:
    facts = {"request": "r", "index": 0, "procedure": "session.rename", "phase": "sessions", "stage_epoch": 1}
    times = {"input": {"id": key.key}, "actor": None, "received": 10, "deadline": 20}
    return NewIntent(entity_key=key, **{**facts, **times, **other})  # type: ignore[arg-type]


async def test_a_settled_intent_has_its_events_its_state_and_its_outcome(log: Log) -> None:
    told: list[Event] = []
    log.on_commit(told.extend)
    (id,) = await log.begin([intent()])
    assert [one.id for one in log.open_intents()] == [id]
    (event,) = await log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1", title="a"),))])
    state = log.state(SESSION)
    assert state is not None
    assert (state.fields, state.position) == ({"title": "a"}, event.position)
    assert log.open_intents() == []
    assert told == [event] == log.read(["session:*"], 0, 10)
    assert log.verify() is None


async def test_settling_again_appends_nothing_and_returns_the_same_events(log: Log) -> None:
    (id,) = await log.begin([intent()])
    once = await log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1", title="a"),))])
    again = await log.settle([Settlement(id, Outcome.APPLIED, 12, (draft("e2", title="b"),))])
    assert again == once
    assert log.head.position == 1
