"""What a log keeps to, on whichever database it lives: writing."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from shadow.errors import (
    DraftRefused,
    IntentUnknown,
    KeyReused,
    LogUnavailable,
    OutcomeRefused,
    PositionConflict,
    Trouble,
)
from shadow.events import GENESIS, Draft, Effect, EntityKey, Event, chain
from shadow.journal import Outcome, Settlement
from shadow.log import Log
from shadow.state import State
from tests.support.facts import SESSION, draft, intent

OTHER = EntityKey("session", "s2")


async def test_a_settled_intent_has_its_events_its_state_and_its_outcome(log: Log) -> None:
    (id,) = await log.begin([intent()])
    assert [one.id for one in log.open_intents()] == [id]

    (event,) = await log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1", title="a"),), detail="as told")])

    assert log.state(SESSION) == State({"title": "a"}, event.position)
    settled = log.intent(id)
    assert settled is not None
    assert (settled.outcome, settled.settled_at, settled.detail) == (Outcome.APPLIED, 11, "as told")
    assert (settled.position, settled.events) == (event.position, 1)
    assert log.open_intents() == []
    assert log.read(["*"], 0, 10) == [event]


async def test_an_intent_is_kept_as_it_was_given(log: Log) -> None:
    given = intent(OTHER, request="r7", index=3, phase=None, input={"sealed": "…", "n": [1.5, None]}, idempotency="k")
    (id,) = await log.begin([given])
    kept = log.intent(id)
    assert kept is not None
    for name in ("request", "index", "procedure", "phase", "stage_epoch", "entity_key", "input", "actor"):
        assert getattr(kept, name) == getattr(given, name), name
    assert (kept.received, kept.deadline, kept.idempotency) == (10, 20, "k")
    assert (kept.outcome, kept.detail, kept.settled_at, kept.position, kept.events) == ("open", None, None, None, 0)


async def test_positions_are_dense_and_chained_in_commit_order(log: Log) -> None:
    told: list[Event] = []
    log.on_commit(told.extend)
    keys = [EntityKey("session", f"s{number % 7}") for number in range(100)]
    made = await asyncio.gather(*(log.append([draft(f"e{number}", key)]) for number, key in enumerate(keys)))

    events = log.read(["*"], 0, 1000)
    assert [event.position for event in events] == list(range(1, 101))
    assert events == told == sorted((event for one in made for event in one), key=lambda event: event.position)
    assert events[0].hash == chain(GENESIS, 1, events[0].draft)
    assert all(after.hash == chain(before.hash, after.position, after.draft) for before, after in pairwise(events))
    assert log.head.position == 100
    assert log.verify() is None


async def test_settling_again_appends_nothing_and_returns_what_it_led_to(log: Log) -> None:
    (id,) = await log.begin([intent()])
    once = await log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1", title="a"), draft("e2", OTHER)))])
    again = await log.settle([Settlement(id, Outcome.APPLIED, 12, (draft("e3", title="b"),))])
    assert again == once
    assert log.head.position == 2


async def test_one_settlement_of_the_same_intent_wins_when_two_come_together(log: Log) -> None:
    (id,) = await log.begin([intent()])
    results = await asyncio.gather(
        *(log.settle([Settlement(id, Outcome.APPLIED, 11, (draft(f"e{number}"),))]) for number in range(5))
    )
    assert log.head.position == 1
    assert {result[0].draft.id for result in results} == {"e0"}


async def test_a_known_event_is_not_appended_again(log: Log) -> None:
    (first,) = await log.append([draft("e1", title="a")])
    again = await log.append([draft("e1", title="other"), draft("e2", title="b")])
    assert again[0] == first
    assert again[1].position == 2
    assert log.state(SESSION) == State({"title": "b"}, 2)


async def test_the_same_event_twice_in_one_append_is_one_event(log: Log) -> None:
    first, second = await log.append([draft("e1"), draft("e1")])
    assert first == second
    assert log.head.position == 1


@pytest.mark.parametrize(
    "bad",
    [
        draft("bad", title=object()),
        draft("bad", EntityKey("session", "nul \0")),
        draft("bad", EntityKey("session", "half a character \ud800")),
        draft("bad", title="\ud800"),
        draft("bad", time=2**64),
        Draft("bad", None, "t", 1, {}),  # type: ignore[arg-type]
    ],
    ids=["not JSON", "NUL", "surrogate", "surrogate in data", "time beyond 64 bits", "no channel"],
)
async def test_a_bad_command_does_not_harm_its_neighbours(log: Log, bad: Draft) -> None:
    drafts = [draft("e1"), bad, draft("e2", OTHER)]
    first, refused, last = await asyncio.gather(*(log.append([one]) for one in drafts), return_exceptions=True)
    assert isinstance(refused, Exception)
    assert not isinstance(refused, LogUnavailable)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert [event.draft.id for event in log.read(["*"], 0, 10)] == ["e1", "e2"]
    assert log.verify() is None


async def test_text_of_any_language_and_nul_in_data_come_back(log: Log) -> None:
    key = EntityKey("session", "ключ-鍵-🗝")
    (event,) = await log.append([draft("e1", key, title="a\0b 'quoted\" 🎬 %s %% ?")])
    assert log.read(["session:ключ*"], 0, 10) == [event]
    assert log.state(key) == State({"title": "a\0b 'quoted\" 🎬 %s %% ?"}, 1)
    assert log.verify() is None


async def test_all_settlements_of_a_command_happen_or_none(log: Log) -> None:
    one, two = await log.begin([intent(), intent(OTHER)])
    with pytest.raises(IntentUnknown):
        await log.settle(
            [Settlement(one, Outcome.APPLIED, 11, (draft("e1"),)), Settlement(99, Outcome.APPLIED, 11, (draft("e2"),))]
        )
    with pytest.raises(DraftRefused):
        await log.settle([Settlement(two, Outcome.REJECTED, 11, (draft("e3"),))])
    assert log.head.position == 0
    assert [found.id for found in log.open_intents()] == [one, two]


async def test_a_doubt_is_settled_once(log: Log) -> None:
    (id,) = await log.begin([intent()])
    await log.settle([Settlement(id, Outcome.IN_DOUBT, 11, detail="timeout")])
    assert [found.detail for found in log.doubts()] == ["timeout"]
    await log.settle([Settlement(id, Outcome.OBSERVED, 12, (draft("e1", title="found"),))])
    assert log.doubts() == []
    with pytest.raises(OutcomeRefused, match="observed cannot become applied"):
        await log.settle([Settlement(id, Outcome.APPLIED, 13)])


async def test_an_append_waits_for_nobody_to_move_its_entity(log: Log) -> None:
    await log.append([draft("e1", title="a")], expected={SESSION: 0})
    with pytest.raises(PositionConflict) as conflict:
        await log.append([draft("e2", title="b")], expected={SESSION: 0})
    assert (conflict.value.expected, conflict.value.actual) == (0, 1)
    both = (log.append([draft(f"f{number}", title=number)], expected={SESSION: 1}) for number in range(2))
    results = await asyncio.gather(*both, return_exceptions=True)
    assert [isinstance(result, PositionConflict) for result in results] == [False, True]


async def test_a_deleted_entity_keeps_its_last_position(log: Log) -> None:
    await log.append([draft("e1", effect=Effect.CREATE, title="a"), draft("e2", effect=Effect.DELETE)])
    assert log.state(SESSION) == State(None, 2)
    assert log.state(OTHER) is None


async def test_ids_of_intents_grow_and_are_never_given_twice(log: Log, url: str) -> None:
    first = await log.begin([intent(), intent()])
    await log.close()
    reopened = Log.open(url)
    try:
        assert first == (1, 2)
        assert await reopened.begin([intent()]) == (3,)
    finally:
        await reopened.close()


async def test_a_reopened_log_goes_on_where_it_was(log: Log, url: str) -> None:
    (open_one, settled) = await log.begin([intent(), intent(OTHER)])
    await log.settle([Settlement(settled, Outcome.APPLIED, 11, (draft("e1", OTHER, title="a"),))])
    head = log.head
    await log.close()
    reopened = Log.open(url)
    try:
        assert reopened.head == head
        assert [found.id for found in reopened.open_intents()] == [open_one]
        assert reopened.state(OTHER) == State({"title": "a"}, 1)
        await reopened.settle([Settlement(open_one, Outcome.APPLIED, 12, (draft("e2", title="b"),))])
        assert reopened.head.position == 2
        assert reopened.verify() is None
    finally:
        await reopened.close()


async def test_a_cancelled_caller_changes_nothing(log: Log) -> None:
    task = asyncio.ensure_future(log.append([draft("e1")]))  # noqa: TID251 - it is cancelled on purpose
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.append([draft("e2", OTHER)])
    assert [event.draft.id for event in log.read(["*"], 0, 10)] == ["e1", "e2"]


async def test_a_listener_that_fails_or_has_left_stops_nobody(log: Log) -> None:
    told: list[Event] = []

    def failing(_events: object) -> None:
        raise RuntimeError("on purpose")

    log.on_commit(failing)
    leave = log.on_commit(told.extend)
    await log.append([draft("e1")])
    leave()
    await log.append([draft("e2")])
    assert [event.draft.id for event in told] == ["e1"]


async def test_a_closed_log_refuses_and_what_was_asked_before_is_done(log: Log, url: str) -> None:
    before = asyncio.gather(*(log.append([draft(f"e{number}")]) for number in range(10)))
    await asyncio.sleep(0)
    await log.close()
    assert len(await before) == 10
    with pytest.raises(LogUnavailable) as refusal:
        await log.append([draft("late")])
    assert refusal.value.trouble is Trouble.CLOSED
    with Log.read_only(url) as reader:
        assert reader.head.position == 10


class TestKeptAnswers:
    """The answer of a call with an idempotency key."""

    KEYED = intent(idempotency="k", fingerprint="f", keep_until=100)

    async def test_is_kept_until_it_expires(self, log: Log) -> None:
        (id,) = await log.begin([self.KEYED])
        running = log.answer("k", 0, 50)
        assert running is not None
        assert (running.intent, running.fingerprint, running.answer) == (id, "f", None)
        await log.settle([Settlement(id, Outcome.APPLIED, 11, (draft("e1"),), answer=b"\x00\xffdone")])
        kept = log.answer("k", 0, 99)
        assert kept is not None
        assert kept.answer == b"\x00\xffdone"
        assert log.answer("k", 0, 100) is None
        assert log.answer("k", 1, 50) is None

    async def test_keeps_its_key_from_being_used_again_until_it_expires(self, log: Log) -> None:
        await log.begin([self.KEYED])
        others = (intent(idempotency="k", received=99, keep_until=200), intent(idempotency="other", keep_until=200))
        refused, done = await asyncio.gather(*(log.begin([one]) for one in others), return_exceptions=True)
        assert isinstance(refused, KeyReused)
        assert done == (2,)
        (id,) = await log.begin([intent(idempotency="k", fingerprint="g", received=100, keep_until=200)])
        kept = log.answer("k", 0, 150)
        assert kept is not None
        assert (kept.intent, kept.fingerprint) == (id, "g")

    async def test_is_given_up_when_the_call_was_not_applied(self, log: Log) -> None:
        (id,) = await log.begin([self.KEYED])
        await log.settle([Settlement(id, Outcome.NOT_APPLIED, 11)])
        assert log.answer("k", 0, 50) is None
        assert await log.begin([self.KEYED]) == (2,)

    async def test_is_forgotten_after_its_time(self, log: Log) -> None:
        await log.begin([self.KEYED, intent(idempotency="later", keep_until=1000)])
        await log.forget_answers(now=100)
        assert log.answer("k", 0, 0) is None
        assert log.answer("later", 0, 0) is not None
