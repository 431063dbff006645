"""Whole runs over a real log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconcile.compare import ABSENT, Kind
from reconcile.errors import ReconcileError
from reconcile.report import Verdict, render
from reconcile.run import Options
from shadow.events import Effect, EntityKey
from shadow.journal import NewIntent, Outcome
from shadow.stages import Stage, StageStore
from tests.support.memory_legacy import CONTRACT
from tests.support.reconcile import TODAY, World, world


@pytest.fixture(name="both")
async def _both(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as both:
        yield both


def agreed(until: str) -> str:
    rule = f'field = "title", owner = "ann", reason = "legacy trims it", expires = {until}'
    return f'ignore = [{{ {rule} }}]\nkey = "item.id"'


async def test_equal_sides_are_clean_at_the_logs_position(both: World) -> None:
    for number in range(25):
        await both.write(f"n{number}", number // 3, title=f"T{number}", tags=["x"])
    report = await both.reconcile()
    assert (report.verdict, report.exit_code, report.findings) == (Verdict.CLEAN, 0, ())
    assert (report.planned, report.exact, report.coverage) == (25, 25, 1.0)
    assert report.first_position == report.last_position == 25
    assert report.scopes[0].in_one_look == 25
    assert report.bound == pytest.approx(3 / 25, rel=0.1)
    assert "user" not in report.legacy


async def test_a_change_behind_the_proxys_back_is_found_and_named(both: World) -> None:
    await both.write("a", title="A", tags=[])
    await both.write("b", title="B", tags=[])
    both.memory.notes["a"]["title"] = "tampered"
    report = await both.reconcile()
    (finding,) = report.findings
    assert (report.exit_code, finding.kind, finding.entity, finding.key) == (1, Kind.BYPASS_WRITE, "note", "a")
    assert [(one.path, one.legacy, one.log) for one in finding.differences] == [(("title",), "tampered", "A")]
    assert finding.position == 1
    assert finding.events == ("event @1 note-create (intent:1)",)


async def test_what_only_one_side_has_is_found(both: World) -> None:
    await both.write("gone", title="G", tags=[])
    del both.memory.notes["gone"]
    both.memory.put("new", title="N")
    report = await both.reconcile()
    assert [(finding.kind, finding.key) for finding in report.findings] == [
        (Kind.MISSING_IN_LOG, "new"),
        (Kind.EXTRA_IN_LOG, "gone"),
    ]
    assert report.findings[0].differences[0].log is ABSENT
    assert (report.planned, report.differing) == (2, 2)


async def test_a_lost_event_is_told_from_a_bypass_and_the_event_before_it_is_found(both: World) -> None:
    await both.write("a", title="A", tags=[])
    await both.write("a", title="B")
    intent = await both.begin("note.rename", "a", id="a", title="A")
    await both.settle(intent, Outcome.NOT_APPLIED)
    both.memory.notes["a"]["title"] = "A"
    (finding,) = (await both.reconcile()).findings
    assert (finding.kind, finding.first_divergence) == (Kind.VALUE_DIFFERS, 2)
    assert finding.intents[0] == f"intent {intent} note.rename: not_applied"


async def test_a_write_in_flight_is_never_called_a_difference(both: World) -> None:
    """The legacy has the new title, the log gets it one look later."""
    await both.write("a", title="A", tags=[])
    intent = await both.begin("note.rename", "a", id="a", title="B")
    both.memory.notes["a"]["title"] = "B"

    async def settle_late(procedure: str) -> None:
        if procedure == "note.get" and both.log.head.position == 1:
            await both.settle(intent, Outcome.APPLIED, both.draft("a", Effect.PATCH, {"title": "B"}))

    both.memory.meanwhile = settle_late
    report = await both.reconcile()
    assert (report.verdict, report.findings) == (Verdict.CLEAN, ())


async def test_a_doubt_that_stays_is_inconclusive_not_drift(both: World) -> None:
    await both.write("a", title="A", tags=[])
    intent = await both.begin("note.rename", "a", id="a", title="B")
    await both.settle(intent, Outcome.IN_DOUBT, detail="timeout")
    both.memory.notes["a"]["title"] = "B"
    report = await both.reconcile()
    assert (report.exit_code, [finding.kind for finding in report.findings]) == (2, [Kind.IN_DOUBT])
    assert report.coverage == 0.0


async def test_a_create_in_flight_excuses_an_entity_that_the_log_does_not_know_yet(both: World) -> None:
    intent = await both.begin("note.create", None, title="N")
    both.memory.put("new", title="N")

    async def settle_late(procedure: str) -> None:
        if procedure == "note.get" and both.log.head.position == 0:
            await both.settle(intent, Outcome.APPLIED, both.draft("new", Effect.CREATE, {"title": "N"}))

    both.memory.meanwhile = settle_late
    assert (await both.reconcile()).verdict is Verdict.CLEAN


async def test_other_peoples_creates_do_not_keep_a_difference_from_being_confirmed(both: World) -> None:
    """Somebody is always creating something; each of those calls shows in the end that it was not about this key."""
    await both.write("a", title="A", tags=[])
    both.memory.notes["a"]["title"] = "tampered"
    running = [await both.begin("note.create", None, title="N0")]

    async def another(_: str) -> None:
        running.append(await both.begin("note.create", None, title="N"))

    async def finish() -> None:
        while running:
            key = f"n{running[-1]}"
            both.memory.put(key, title="N")
            await both.settle(running.pop(), Outcome.APPLIED, both.draft(key, Effect.CREATE, {"title": "N"}))

    both.memory.meanwhile = another
    only_a = Options(keys=(EntityKey("note", "a"),), attempts=1, self_test=False)
    report = await both.reconcile(only_a, meanwhile=finish)
    assert [finding.kind for finding in report.findings] == [Kind.BYPASS_WRITE]


async def test_a_legacy_that_fails_for_one_key_leaves_that_key_unverified(both: World) -> None:
    await both.write("a", title="A", tags=[])
    both.memory.statuses = [500] * 100
    report = await both.reconcile(Options(keys=(EntityKey("note", "a"),), attempts=2, self_test=False))
    assert (report.exit_code, report.findings[0].kind) == (2, Kind.UNVERIFIED)
    assert "INTERNAL" not in report.findings[0].message


async def test_an_expired_agreement_is_a_failure_and_no_longer_hides_anything(tmp_path: Path) -> None:
    rule = agreed("2025-12-31")
    async with world(tmp_path, CONTRACT.replace('key = "item.id"', rule)) as both:
        await both.write("a", title="A ", tags=[])
        both.memory.notes["a"]["title"] = "A"
        report = await both.reconcile()
    assert [finding.kind for finding in report.findings] == [Kind.BYPASS_WRITE, Kind.EXPIRED_IGNORE]


async def test_an_agreement_in_force_is_counted(tmp_path: Path) -> None:
    rule = agreed("2026-12-31")
    async with world(tmp_path, CONTRACT.replace('key = "item.id"', rule)) as both:
        await both.write("a", title="A ", tags=[])
        both.memory.notes["a"]["title"] = "A"
        report = await both.reconcile()
    assert report.verdict is Verdict.CLEAN
    assert report.scopes[0].ignored == {"note.title (ann, until 2026-12-31)": 1}


async def test_a_sample_is_chosen_by_its_seed(both: World) -> None:
    for number in range(20):
        await both.write(f"n{number:02}", number, title="T", tags=[])
    report = await both.reconcile(Options(sample=5, seed=7, self_test=False))
    assert (report.planned, report.sampled, report.exit_code) == (5, True, 0)
    assert len([name for name in both.memory.requests if name == "note.get"]) == 5


async def test_a_list_alone_is_enough(tmp_path: Path) -> None:
    """Settings often come as one object, with no way to read a single entry."""
    contract = "\n".join(
        line
        if not line.startswith(("list =", "get ="))
        else {"l": 'list = { query = "note.all", items = "output.notes" }', "g": ""}[line[0]]
        for line in CONTRACT.splitlines()
    )
    async with world(tmp_path, contract) as both:
        await both.write("a", title="A", tags=[])
        await both.write("b", title="B", tags=[])
        both.memory.notes["b"]["title"] = "tampered"
        report = await both.reconcile()
    assert [finding.key for finding in report.findings] == ["b"]


async def test_a_name_that_the_contract_lacks_is_refused(both: World) -> None:
    with pytest.raises(ReconcileError, match="no entity 'nope'; it has note"):
        await both.reconcile(Options(entities=("nope",)))


STREAM = """
[tap."note.dictate"]
channel = "'note:' + item.id"

[[tap."note.dictate".events]]
entity = "note"
key = "item.id"
effect = "patch"
event = "note-renamed"
data = "{'id': item.id, 'title': item.title}"
"""


async def test_what_a_stream_is_writing_is_no_difference_until_it_stays(tmp_path: Path) -> None:
    """The legacy has it before the item that tells of it has reached the log, and no intent says so."""
    async with world(tmp_path, CONTRACT + STREAM) as both:
        await both.write("a", title="A", tags=[])
        await both.write("b", title="B", tags=[])
        both.memory.notes["a"]["title"] = "dictated"
        both.memory.notes["b"]["title"] = "tampered"

        async def told_late(procedure: str) -> None:
            if procedure == "note.get" and both.memory.requests.count("note.get") == 3:
                await both.log.append([both.draft("a", Effect.PATCH, {"title": "dictated"})])

        both.memory.meanwhile = told_late
        report = await both.reconcile()
    assert [finding.key for finding in report.findings] == ["b"]


async def test_the_detector_finds_every_fault_planted_into_a_copy(both: World) -> None:
    for number in range(12):
        await both.write(f"n{number}", number, title=f"Tïtle {number}", tags=["x", number])
        await both.write(f"n{number}", number, title=f"Other {number}")
    before = both.log.head.position
    report = await both.reconcile(Options())
    assert report.self_test is not None
    assert (report.self_test.planted, report.self_test.recall) == (9, 1.0)
    assert (report.exit_code, both.log.head.position) == (0, before)


async def test_a_blind_detector_is_inconclusive(tmp_path: Path) -> None:
    """The single read shows nothing of what the list shows, and so would hide a difference for ever."""
    contract = CONTRACT.replace("input = \"{'id': key}\" }", "input = \"{'id': key}\", item = \"{'id': key}\" }")
    async with world(tmp_path, contract) as both:
        await both.write("a")
        await both.write("a")
        blind = await both.reconcile(Options())
    assert blind.self_test is not None
    assert blind.self_test.missed == ("note: duplicated", "note: wrong key")
    assert blind.exit_code == 2


async def test_fields_in_which_the_legacy_disagrees_with_itself_are_learnt_and_listed(both: World) -> None:
    for number in range(3):
        await both.write(f"n{number}", number, title="T", tags=[0])
    looks = 0

    async def tick(_: str) -> None:
        nonlocal looks
        looks += 1
        for note in both.memory.notes.values():
            note["tags"] = [looks]

    both.memory.meanwhile = tick
    report = await both.reconcile(Options(calibrate=3, self_test=False))
    scope = report.scopes[0]
    assert (scope.learnt, report.verdict) == (("tags.*",), Verdict.CLEAN)
    assert scope.volatile["tags.0"] == 3
    assert "learnt that tags.* differs" in render(report, "text", width=200)


async def test_two_calls_of_one_batch_make_their_order_ambiguous(both: World) -> None:
    """A server runs the members of a batch at the same time; which came last only it knows."""
    await both.write("a", title="A", tags=[])
    batch = [
        NewIntent(
            "batch", index, "note.rename", "notes", 0, EntityKey("note", "a"), {"title": title}, None, TODAY, TODAY
        )
        for index, title in enumerate("XY")
    ]
    for intent, title in zip(await both.log.begin(batch), "XY", strict=True):
        await both.settle(intent, Outcome.APPLIED, both.draft("a", Effect.PATCH, {"title": title}))
    both.memory.notes["a"]["title"] = "X"
    assert [finding.kind for finding in (await both.reconcile()).findings] == [Kind.ORDER_AMBIGUOUS]


async def test_a_phase_that_is_off_is_said_to_be_off(both: World) -> None:
    store = StageStore(both.log, ("notes",))
    for wanted, epoch in ((Stage.DUALWRITE, 0), (Stage.OFF, 1)):
        await store.change("notes", wanted, epoch=epoch, now=TODAY, id=f"s{epoch}", actor=None, reason="test")
    report = await both.reconcile()
    assert report.scopes[0].note == "phase notes stands at off: what clients change is not in the log"


async def test_a_gap_in_the_contract_is_no_bypass(both: World) -> None:
    """A call that the contract has no rule for is recorded as unmapped, without a key; its input names the entity."""
    await both.write("a", title="A", tags=[])
    unmapped = NewIntent("r9", 0, "note.shout", None, 0, None, {"ids": ["a"]}, None, TODAY, TODAY)
    (intent,) = await both.log.begin([unmapped])
    await both.settle(intent, Outcome.APPLIED, detail="unmapped")
    both.memory.notes["a"]["title"] = "A!!!"
    (finding,) = (await both.reconcile()).findings
    assert finding.kind is Kind.VALUE_DIFFERS
    assert "note.shout named this entity" in finding.message
    assert finding.intents[0] == f"intent {intent} note.shout: applied (unmapped)"
