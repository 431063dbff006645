"""What a log keeps to, on whichever database it lives: reading."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from shadow import writer
from shadow.dialect import dialect_of
from shadow.errors import DatabaseMissing
from shadow.events import Draft, Effect, EntityKey, Event, matches
from shadow.journal import Outcome, Settlement, Tally
from shadow.log import Log
from shadow.reader import At, Break, Damage
from shadow.schema import SEGMENT
from shadow.state import State
from tests.support.facts import SESSION, draft, intent

OTHER = EntityKey("session", "s2")


@pytest.mark.parametrize(
    "patterns",
    [["*"], ["a:*"], ["a:1"], ["a:1", "b:2"], ["b:*", "a:3"], ["c"], ["a*", "*"], [], ["c\U0010ffff*"], ["\ud7ff*"]],
    ids=str,
)
async def test_reading_finds_what_the_patterns_name_in_order(log: Log, patterns: list[str]) -> None:
    channels = ["a:1", "a:2", "b:1", "b:2", "a:3", "c", "a", "c\U0010ffffd", "\ud7ffx"]
    total = 3 * SEGMENT + 17
    events: list[Event] = []
    for start in range(0, total, 1000):
        numbers = range(start, min(start + 1000, total))
        events += await log.append(
            [Draft(f"e{n}", channels[n * n % len(channels)], f"t{n % 3}", n, n) for n in numbers]
        )
    wanted = [event for event in events if any(matches(pattern, event.draft.channel) for pattern in patterns)]
    typed = [event for event in wanted if event.draft.type == "t1"]

    assert log.read(patterns, 0, total) == wanted
    assert log.read(patterns, SEGMENT - 1, 40) == [event for event in wanted if event.position >= SEGMENT][:40]
    assert log.read(patterns, 5, 40, types=["t1"]) == [event for event in typed if event.position > 5][:40]
    assert log.read(patterns, total, 40) == []


async def test_an_event_is_found_by_position_and_by_id(log: Log) -> None:
    (event,) = await log.append([draft("e1", title="a")])
    assert log.event(1) == log.find("e1") == event
    assert log.event(2) is None
    assert log.find("e2") is None


async def test_a_history_holds_all_events_of_its_entity_and_no_others(log: Log) -> None:
    await log.append([draft("e1", title="a"), draft("x", OTHER), draft("n", None, Effect.NONE)])
    await log.append([draft("e2", effect=Effect.NONE), draft("e3", effect=Effect.DELETE), draft("e4", title="b")])
    assert [event.draft.id for event in log.history(SESSION)] == ["e1", "e2", "e3", "e4"]
    assert log.history(EntityKey("session", "unknown")) == []


async def test_state_at_a_moment_is_what_had_been_folded_by_then(log: Log) -> None:
    await log.append(
        [
            draft("e1", effect=Effect.CREATE, time=100, title="a", model="m"),
            draft("x", OTHER, time=150, title="x"),
            draft("e2", effect=Effect.PATCH, time=200, title="b"),
            draft("e3", effect=Effect.DELETE, time=300),
        ]
    )
    by_position = [log.at(SESSION, At(position=position)) for position in range(5)]
    created, patched = State({"title": "a", "model": "m"}, 1), State({"title": "b", "model": "m"}, 3)
    assert by_position == [None, created, created, patched, State(None, 4)]
    assert [log.at(SESSION, At(time=time)) for time in (99, 100, 250, 300)] == [None, created, patched, State(None, 4)]
    assert log.states_at(At(position=3)) == {SESSION: patched, OTHER: State({"title": "x"}, 2)}
    assert log.states_at(At(time=150)) == {SESSION: created, OTHER: State({"title": "x"}, 2)}


async def test_states_come_in_pages_in_the_order_of_their_keys(log: Log) -> None:
    keys = ["a", "B", "b", "ä", "Z", "z", "10", "9", "鍵", "🗝"]
    await log.append([draft(f"e{place}", EntityKey("session", key)) for place, key in enumerate(keys)])
    await log.append([draft("other", EntityKey("provider", "p"))])
    pages, after = [], None
    while page := log.states("session", after, 3):
        pages += [key.key for key, _ in page]
        after = page[-1][0].key
    assert pages == sorted(keys)


async def test_what_was_folded_as_it_came_is_what_folding_all_again_gives(log: Log) -> None:
    effects = list(Effect)
    for number in range(60):
        key = EntityKey("session", f"s{number % 4}")
        await log.append([draft(f"e{number}", key, effects[number * 7 % 5], **{f"f{number % 3}": number})])
    assert log.states_at(At(position=60)) == dict(log.states("session", None, 10))


async def test_intents_are_filtered_and_counted(log: Log) -> None:
    one, two, three = await log.begin(
        [intent(), intent(OTHER, procedure="session.delete"), intent(None, procedure="odd.thing", phase=None)]
    )
    await log.settle([Settlement(two, Outcome.REJECTED, 11), Settlement(three, Outcome.IN_DOUBT, 11)])

    def ids(*outcomes: Outcome, **filters: object) -> list[int]:
        return [found.id for found in log.intents(outcomes, **filters)]  # type: ignore[arg-type]

    assert ids() == [one, two, three]
    assert ids(after=one, limit=1) == [two]
    assert ids(Outcome.REJECTED, Outcome.OPEN) == [one, two]
    assert ids(procedure="session.delete") == ids(entity_key=OTHER) == [two]
    assert ids(phase="sessions") == [one, two]
    assert [found.id for found in log.doubts()] == [three]
    assert set(log.tallies()) == {
        Tally("session.rename", "sessions", Outcome.OPEN, 1),
        Tally("session.delete", "sessions", Outcome.REJECTED, 1),
        Tally("odd.thing", None, Outcome.IN_DOUBT, 1),
    }


async def test_a_reader_sees_what_is_committed_and_cannot_write(log: Log, url: str) -> None:
    with Log.read_only(url) as reader:
        assert reader.head.position == 0
        (event,) = await log.append([draft("e1", title="a")])
        assert reader.head == log.head
        assert reader.read(["*"], 0, 10) == [event]
        assert reader.state(SESSION) == State({"title": "a"}, 1)
    engine = dialect_of(url).readers()
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError, match=r"read.?only"):
        connection.exec_driver_sql("DELETE FROM events")
    engine.dispose()


async def test_a_reader_works_without_a_writer(log: Log, url: str) -> None:
    await log.append([draft("e1")])
    await log.close()
    with Log.read_only(url) as reader:
        assert reader.head.position == 1
        assert reader.verify() is None


def test_a_database_without_a_log_is_not_read(url: str) -> None:
    with pytest.raises(DatabaseMissing, match="changeover serve"):
        Log.read_only(url)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE events SET data = '{\"is\":1}' WHERE position = 3", Break(3, Damage.ALTERED)),
        ("UPDATE events SET data = '{\"is\":' WHERE position = 3", Break(3, Damage.ALTERED)),
        ("UPDATE events SET effect = 'odd' WHERE position = 3", Break(3, Damage.ALTERED)),
        ("UPDATE events SET actor = 'somebody' WHERE position = 1", Break(1, Damage.ALTERED)),
        ("UPDATE events SET hash = 'f' WHERE position = 2", Break(2, Damage.ALTERED)),
        ("DELETE FROM events WHERE position = 2", Break(2, Damage.GAP)),
        ("DELETE FROM events WHERE position > 3", Break(4, Damage.TRUNCATED)),
        ("DELETE FROM events", Break(1, Damage.TRUNCATED)),
        ("UPDATE log SET position = 4", Break(5, Damage.EXTRA)),
        ("UPDATE log SET hash = 'f'", Break(5, Damage.ALTERED)),
    ],
)
async def test_verify_names_the_place_where_somebody_altered_the_log(
    log: Log, url: str, change: str, found: Break
) -> None:
    await log.append([draft(f"e{number}", title=number) for number in range(5)])
    assert log.verify() is None
    await log.close()
    dialect = dialect_of(url)
    with dialect.own(create=False) as connection:
        connection.exec_driver_sql(change)
    dialect.disown()
    with Log.read_only(url) as reader:
        assert reader.verify() == found


async def test_verify_tells_how_far_it_is(log: Log) -> None:
    for start in range(0, 6000, 2000):
        await log.append([draft(f"e{number}") for number in range(start, start + 2000)])
    told: list[tuple[int, int]] = []
    assert log.verify(lambda done, total: told.append((done, total))) is None
    assert told == [(5000, 6000), (6000, 6000)]


async def test_states_are_read_whole_while_their_table_lags_behind(url: str) -> None:
    """A reader of its own sees what the writer's events add up to, at every moment of a sweep and after a restart."""
    log = Log.open(url, lag=7, cached_states=2)
    reader = Log.read_only(url)
    for number in range(60):
        key = EntityKey("session", f"s{number * 7 % 25:02}")
        effect = Effect.DELETE if number % 9 == 8 else Effect.PATCH if number > 40 else Effect.PUT
        await log.append([draft(f"e{number}", key, effect=effect, number=number), draft(f"x{number}", OTHER, n=number)])
        expected = reader.states_at(At(position=2 * number + 2))
        pages, after = [], None
        while page := reader.states("session", after, 4):
            pages += page
            after = page[-1][0].key
        assert pages == log.states("session", None, 100) == sorted(expected.items())
        assert {key: reader.state(key) for key in expected} == {key: log.state(key) for key in expected} == expected
        if number == 30:
            await log.close()
            log = Log.open(url, lag=7)
    assert [event.draft.id for event in reader.history(OTHER)] == [f"x{number}" for number in range(60)]
    reader.release()
    await log.close()


async def test_a_log_that_was_closed_in_order_has_all_states_in_their_table(url: str, log: Log) -> None:
    await log.append([draft("e1", title="a")])
    await log.close()
    engine = dialect_of(url).readers()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT position FROM states").scalar() == 1
        assert connection.exec_driver_sql("SELECT folded FROM log").scalar() == 1
    engine.dispose()


async def test_a_log_at_rest_brings_its_table_of_states_up_to_date(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_REST", 0.01)
    log = Log.open(url)
    await log.append([draft(f"e{number}", EntityKey("session", f"s{number:03}"), n=number) for number in range(300)])
    await log.append([draft("again", EntityKey("session", "s007"), n=1)])
    engine = dialect_of(url).readers()
    with engine.connect() as connection:
        async with asyncio.timeout(30):
            while connection.exec_driver_sql("SELECT folded FROM log").scalar() != 301:  # noqa: ASYNC110 - a thread does it
                await asyncio.sleep(0.02)
        assert connection.exec_driver_sql("SELECT count(*), max(position) FROM states").one() == (300, 301)
    engine.dispose()
    assert dict(log.states("session", None, 1000)) == log.states_at(At(position=301))
    await log.append([draft("last", OTHER)])
    assert log.verify() is None
    await log.close()
