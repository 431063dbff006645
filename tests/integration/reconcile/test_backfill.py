"""Taking over what the legacy had before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconcile.answers import PlainWire
from reconcile.append import DirectAppender
from reconcile.backfill import Backfill, Imported
from reconcile.compare import Kind
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy
from reconcile.pace import Limits, Pace
from reconcile.plans import plans
from shadow.events import Effect, EntityKey
from shadow.journal import Outcome
from tests.support.memory_legacy import CONTRACT
from tests.support.reconcile import TODAY, World, world


@pytest.fixture(name="both")
async def _both(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as both:
        yield both


async def backfill(both: World) -> Imported:
    clock = [0.0]

    async def pause(seconds: float) -> None:
        clock[0] += seconds

    def new_id() -> str:
        both.numbers[0] += 1
        return f"import-{both.numbers[0]}"

    with Evidence.open(both.url) as evidence:
        async with both.memory.client() as client:
            pace = Pace(Limits(), clock=lambda: clock[0], sleep=pause)
            legacy = Legacy(client, "http://legacy/trpc", wire=PlainWire(), pace=pace)
            work = Backfill(legacy, evidence, DirectAppender(both.log), new_id=new_id, clock=lambda: TODAY, sleep=pause)
            return await work.run(plans(both.contract)[0])


async def test_after_a_backfill_both_sides_are_equal_and_a_second_one_changes_nothing(both: World) -> None:
    for number in range(33):
        both.memory.put(f"n{number}", number // 4, title=f"T{number}")
    first = await backfill(both)
    position = both.log.head.position
    second = await backfill(both)
    assert (first.imported, first.complete) == (33, True)
    assert (second.imported, second.present) == (0, 33)
    assert both.log.head.position == position
    assert (await both.reconcile()).exit_code == 0


async def test_an_import_never_overwrites_what_a_mutation_wrote_meanwhile(both: World) -> None:
    """The note is renamed after the backfill read it and before it appends."""
    both.memory.put("a", title="old")
    renamed = False

    async def rename(procedure: str) -> None:
        nonlocal renamed
        if not renamed:
            renamed = True
            await both.write("a", title="new")

    both.memory.meanwhile = rename
    assert (await backfill(both)).imported == 1
    state = both.log.state(EntityKey("note", "a"))
    assert state is not None
    assert state.fields == {"title": "new"}
    assert (await both.reconcile()).exit_code == 0


async def test_an_import_waits_for_the_event_of_its_own_creation(both: World) -> None:
    intent = await both.begin("note.create", None, title="N")
    both.memory.put("n", title="N")

    async def settle(procedure: str) -> None:
        if procedure == "note.get" and both.log.head.position == 0:
            await both.settle(intent, Outcome.APPLIED, both.draft("n", Effect.CREATE, {"title": "N"}))

    both.memory.meanwhile = settle
    tally = await backfill(both)
    assert (tally.imported, tally.present) == (0, 1)
    assert [event.draft.effect for event in both.log.history(EntityKey("note", "n"))] == [Effect.CREATE]


async def test_what_stays_in_doubt_is_not_imported_and_the_backfill_says_that_it_is_incomplete(both: World) -> None:
    both.memory.put("a", title="A")
    intent = await both.begin("note.rename", "a", title="B")
    await both.settle(intent, Outcome.IN_DOUBT)
    tally = await backfill(both)
    assert (tally.imported, tally.failed, tally.complete) == (0, 1, False)


async def test_a_difference_is_left_to_reconcile(both: World) -> None:
    await both.write("a", title="A")
    await both.write("b", title="B")
    await both.log.append([both.draft("b", Effect.DELETE, None)])
    both.memory.notes["a"]["title"] = "tampered"
    tally = await backfill(both)
    assert (tally.imported, tally.differing) == (0, 2)


async def test_once_everything_was_imported_an_unknown_entity_is_a_bypass(both: World) -> None:
    await backfill(both)
    both.memory.put("new", title="N")
    assert [finding.kind for finding in (await both.reconcile()).findings] == [Kind.BYPASS_WRITE]


async def test_a_list_that_shows_less_is_completed_by_single_reads(tmp_path: Path) -> None:
    contract = CONTRACT.replace('cursor = "output.nextCursor"', 'cursor = "output.nextCursor", lacks = ["tags"]')
    async with world(tmp_path, contract) as both:
        for number in range(12):
            both.memory.put(f"n{number}", number, title="T", tags=[number])
        assert (await backfill(both)).imported == 12
        reads = both.memory.requests.count("note.get")
        assert (await backfill(both)).present == 12
        assert (reads, both.memory.requests.count("note.get")) == (12, 12)


async def test_a_secret_in_clear_becomes_its_mask(tmp_path: Path) -> None:
    contract = CONTRACT.replace(
        'key = "item.id"', 'secret = ["title"]\nmask = [{ field = "title", keep = 2, text = "***" }]\nkey = "item.id"'
    )
    async with world(tmp_path, contract) as both:
        both.memory.put("a", title="sk-secret")
        both.memory.put("b", title="sk***")
        await backfill(both)
        states = [both.log.state(EntityKey("note", key)) for key in "ab"]
        assert [state and state.fields for state in states] == [{"title": "sk***"}, {"title": "sk***"}]
        assert (await both.reconcile()).exit_code == 0
