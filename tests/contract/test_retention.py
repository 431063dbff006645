"""What is kept no longer is gone from the events, and nothing that is kept notices; the same on both databases."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shadow.contract import parse
from shadow.events import RETENTION, Draft, Effect, EntityKey, Event
from shadow.log import Log
from shadow.reader import At
from shadow.retention import Retention, made_up
from shadow.state import Fields, State, follow

RULES = """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
key = "item.id"
fields = ["title", "tags"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'note:' + output.id"
data = "output"

[channel."note:*"]
retention = { age = "1d" }

[channel."note:kept"]
see = "open"

[channel."busy:*"]
retention = { count = 2 }
"""
DAY = 86_400_000


def event(number: int, channel: str, *, time: int = 0, key: str | None = None, **change: str) -> Draft:
    entity = None if key is None else EntityKey("note", key)
    effect = Effect.NONE if key is None else Effect.PATCH if number > 2 else Effect.CREATE
    return Draft(f"e{number}", channel, "said", time, {"n": number}, entity, effect, dict(change) if key else None)


def retention(log: Log, now: int) -> Retention:
    return Retention(parse(RULES, "contract.toml"), log, lambda: now)


def said(log: Log, *patterns: str) -> list[tuple[int, object]]:
    return [(each.position, each.draft.data) for each in log.read(patterns or ["*"], 0, 100)]


async def test_what_is_too_old_says_nothing_any_more(log: Log) -> None:
    await log.append([event(1, "note:a"), event(2, "note:kept"), event(3, "other"), event(4, "note:b", time=2 * DAY)])

    assert await retention(log, 2 * DAY).drop() == 1
    assert said(log) == [(1, None), (2, {"n": 2}), (3, {"n": 3}), (4, {"n": 4})]
    assert log.latest(["note:*"], 9)[0].position == 2
    assert await retention(log, 2 * DAY).drop() == 0


async def test_the_last_events_of_each_channel_are_kept(log: Log) -> None:
    await log.append([event(number, f"busy:{'ab'[number % 2]}") for number in range(1, 8)])

    assert await retention(log, 0).drop() == 3
    assert [position for position, data in said(log) if data is not None] == [4, 5, 6, 7]


async def test_states_and_the_chain_do_not_notice(log: Log) -> None:
    key = EntityKey("note", "a")
    await log.append([event(1, "note:a", key="a", title="A")])
    await log.append([event(3, "note:a", key="a", tags="x")])
    await log.append([event(4, "note:kept", key="a", title="B")])
    await log.append([event(5, "note:a", key="a", tags="y")])
    await log.append([event(6, "note:a", time=2 * DAY, key="a", title="C")])
    before = {position: log.at(key, At(position=position)) for position in (3, 5)}
    all_before = log.states_at(At(position=5))

    assert await retention(log, 2 * DAY).drop() == 3
    assert log.state(key) == State({"title": "C", "tags": "y"}, 5)
    assert {position: log.at(key, At(position=position)) for position in (3, 5)} == before
    assert log.states_at(At(position=5)) == all_before
    assert log.verify() is None
    assert await log.append([event(1, "note:a", key="a", title="A")]) == (log.event(1),)


async def test_where_phases_stand_is_kept_for_ever(log: Log) -> None:
    stage = replace(event(1, "note:a", key="a"), entity=EntityKey("@stage", "notes"))
    await log.append([stage])

    assert await retention(log, 9 * DAY).drop() == 0


EFFECTS = st.sampled_from([Effect.CREATE, Effect.PUT, Effect.PATCH, Effect.DELETE, Effect.NONE])
CHANGES = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3)
STEPS = st.lists(st.tuples(EFFECTS, CHANGES), min_size=1, max_size=12)


@given(STEPS, st.lists(st.sets(st.integers(1, 12)), min_size=1, max_size=3))
def test_whatever_is_dropped_the_state_after_every_kept_event_is_as_it_was(
    steps: list[tuple[Effect, Fields]], drops: list[set[int]]
) -> None:
    history: Sequence[Event] = [
        Event(position, Draft("e", "c", "t", 0, {}, EntityKey("note", "a"), effect, change), "")
        for position, (effect, change) in enumerate(steps, 1)
    ]
    before = states(history)
    for positions in drops:
        made = {each.position: each for each in made_up(history, positions)}
        history = [
            replace(each, draft=replace(each.draft, effect=new.effect, change=new.change, cause=RETENTION))
            if (new := made.get(each.position))
            else each
            for each in history
        ]
    after = states(history)

    kept = [each.position for each in history if each.draft.cause != RETENTION]
    assert [after[position] for position in kept] == [before[position] for position in kept]
    assert after[len(history)] == before[len(history)]


def states(history: Sequence[Event]) -> dict[int, Fields | None]:
    found: dict[int, Fields | None] = {}
    state: State | None = None
    for each in history:
        state = follow(state, each.position, each.draft.effect, each.draft.change)
        found[each.position] = state.fields
    return found
