"""What the log has beyond a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.evidence import Evidence
from shadow.events import Effect
from tests.support.postgres import Postgres
from tests.support.reconcile import World, world

HERE = [f"n{number}" for number in range(9)]


@pytest.fixture(params=["sqlite", "postgresql"], name="database")
def _database(request: pytest.FixtureRequest) -> str | None:
    if request.param == "sqlite":
        return None
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database()


async def filled(both: World) -> None:
    await both.log.append([both.draft(key, Effect.CREATE, {"title": key}) for key in [*HERE, "deleted"]])
    await both.log.append([both.draft("deleted", Effect.DELETE, None)])


async def test_only_what_is_not_listed_is_returned_whether_the_log_stands_still_or_not(
    tmp_path: Path, database: str | None
) -> None:
    async with world(tmp_path, database=database) as both:
        await filled(both)
        with Evidence.open(both.url) as evidence:
            head = evidence.head.position
            for position in (head, head - 1):
                assert evidence.unlisted("note", set(HERE), len(HERE), position) == []
                assert evidence.unlisted("note", {*HERE, "stranger"}, len(HERE), position) == []
                assert evidence.unlisted("note", {*HERE[1:], "stranger"}, len(HERE) - 1, position) == ["n0"]
                assert evidence.unlisted("note", set(), 0, position) == HERE
                assert evidence.unlisted("other", set(HERE), 0, position) == []


async def test_what_was_made_since_the_list_was_read_is_not_overlooked_however_the_numbers_agree(
    tmp_path: Path, database: str | None
) -> None:
    async with world(tmp_path, database=database) as both:
        await filled(both)
        with Evidence.open(both.url) as evidence:
            listed_at = evidence.head.position
            await both.log.append([both.draft("n0", Effect.DELETE, None), both.draft("new", Effect.CREATE, {"v": 1})])
            assert evidence.unlisted("note", set(HERE), len(HERE), listed_at) == ["new"]


async def test_a_state_is_the_text_of_its_fields_with_the_position_of_its_last_event(
    tmp_path: Path, database: str | None
) -> None:
    odd = ["%s", "?", "a'b", 'c"d', "ü\u0001", "x" * 500]
    async with world(tmp_path, database=database) as both:
        await both.log.append([both.draft(key, Effect.CREATE, {"title": key}) for key in odd])
        with Evidence.open(both.url) as evidence:
            reading = evidence.reading("note", [*odd, "nobody", *map(str, range(900))], evidence.moment())
    assert {key: reading.fields(key) for key in reading.states} == {key: {"title": key} for key in odd}
    assert [reading.position(key) for key in odd] == list(range(1, len(odd) + 1))
