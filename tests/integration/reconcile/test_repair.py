"""Mending differences, in the direction that was asked for and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconcile.answers import PlainWire
from reconcile.append import DirectAppender
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy
from reconcile.pace import Limits, Pace
from reconcile.passes import Method, Passes
from reconcile.plans import plans
from reconcile.repair import Beyond, Calls, Correction, Outcome, Repair, Step, plan_steps, remaining
from shadow.events import EntityKey
from shadow.stages import Origin
from tests.support.memory_legacy import CONTRACT
from tests.support.reconcile import TODAY, World, world

DELETE = """
[mutation."note.delete"]
entity = "note"
key = "input.id"
effect = "delete"
event = "note-deleted"
channel = "'note:' + input.id"
data = "{'id': input.id}"

[mutation."note.tag"]
entity = "note"
key = "input.id"
effect = "patch"
event = "note-tagged"
channel = "'note:' + input.id"
data = "{'id': input.id, 'tags': input.tags}"
"""


@pytest.fixture(name="both")
async def _both(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, CONTRACT + DELETE) as both:
        yield both


async def repaired(both: World, origin: Origin, *, moved: str | None = None) -> tuple[list[Step], Outcome]:
    """Plan and carry out; an entity called `moved` gets an event of its own between the two."""
    plan = plans(both.contract)[0]
    outcome = Outcome()
    with Evidence.open(both.url) as evidence:
        async with both.memory.client() as client:
            legacy = Legacy(client, "http://legacy/trpc", wire=PlainWire(), pace=Pace(Limits(), clock=lambda: 0.0))
            passes = Passes(legacy, evidence, Method("2026-01-01"))
            tally = await passes.compare_all(plan)
            keys = [one.key for one in tally.differing]
            reading = evidence.reading("note", keys, evidence.moment())
            states = {key: reading.fields(key) for key in keys}
            steps = plan_steps(both.contract, plan, tally.differing, states, evidence.history, origin, TODAY)
            if moved is not None:
                await both.write(moved, title="moved on")

            def new_id() -> str:
                both.numbers[0] += 1
                return f"repair-{both.numbers[0]}"

            work = Repair(legacy, DirectAppender(both.log), new_id=new_id, clock=lambda: TODAY, run="r1", actor="ann")
            await work.carry_out(steps, outcome)
            outcome.remaining = await remaining(passes, plan, steps)
            await work.record(origin, outcome)
    return steps, outcome


async def test_where_the_legacy_is_right_the_log_is_corrected(both: World) -> None:
    for key in ("changed", "gone"):
        await both.write(key, title="T", tags=[1])
    both.memory.notes["changed"]["title"] = "new"
    del both.memory.notes["gone"]
    both.memory.put("strange", title="S")
    steps, outcome = await repaired(both, Origin.LEGACY)
    assert {step.key.key: step.channel for step in steps if isinstance(step, Correction)} == {
        "changed": "note:changed",
        "gone": "note:gone",
        "strange": "note:strange",
    }
    assert (outcome.done, outcome.remaining) == (3, 0)
    assert (await both.reconcile()).exit_code == 0
    last = both.log.history(EntityKey("note", "changed"))[-1].draft
    assert (last.cause, last.actor, last.change) == ("repair:r1", "ann", {"title": "new", "tags": [1]})


async def test_what_moved_since_the_plan_is_left_alone(both: World) -> None:
    await both.write("a", title="T", tags=[])
    both.memory.notes["a"]["tags"] = ["tampered"]
    _, outcome = await repaired(both, Origin.LEGACY, moved="a")
    assert (outcome.done, outcome.moved) == (0, 1)
    state = both.log.state(EntityKey("note", "a"))
    assert state is not None
    assert state.fields == {"title": "moved on", "tags": []}


async def test_where_the_log_is_right_the_legacy_gets_the_calls_that_lead_there(both: World) -> None:
    await both.write("a", title="T", tags=[1])
    both.memory.notes["a"] |= {"title": "tampered", "tags": []}
    both.memory.put("strange", title="S")
    position = both.log.head.position
    steps, outcome = await repaired(both, Origin.LOG)
    planned = {step.key.key: {call.procedure for call in step.calls} for step in steps if isinstance(step, Calls)}
    assert planned == {"a": {"note.rename", "note.tag"}, "strange": {"note.delete"}}
    assert (outcome.done, outcome.remaining) == (2, 0)
    assert both.memory.notes == {"a": {"id": "a", "updated": 0, "title": "T", "tags": [1]}}
    assert both.log.head.position == position + 1, "only the record of the repair"


async def test_what_no_call_is_known_to_mend_is_said_and_left(both: World) -> None:
    await both.write("gone", title="T", tags=[])
    del both.memory.notes["gone"]
    steps, outcome = await repaired(both, Origin.LOG)
    assert isinstance(steps[0], Beyond)
    assert "no mutation" in str(steps[0])
    assert (outcome.refused, outcome.remaining) == (1, 1)


async def test_a_secret_that_agrees_is_kept_and_one_that_differs_is_not_sent(tmp_path: Path) -> None:
    contract = (CONTRACT + DELETE).replace(
        'key = "item.id"', 'secret = ["tags"]\nmask = [{ field = "tags", keep = 2, text = "***" }]\nkey = "item.id"'
    )
    async with world(tmp_path, contract) as both:
        await both.write("a", title="T", tags="sk-secret")
        both.memory.notes["a"] |= {"title": "new", "tags": "sk***"}
        await both.write("b", title="T", tags="sk-secret")
        both.memory.notes["b"]["tags"] = "other***"
        steps, _ = await repaired(both, Origin.LOG)
        assert {step.key.key: type(step) for step in steps} == {"a": Calls, "b": Beyond}
        both.memory.notes["a"] |= {"title": "new", "tags": "sk***"}
        steps, _ = await repaired(both, Origin.LEGACY)
        fields = {step.key.key: (step.fields, step.told) for step in steps if isinstance(step, Correction)}
        assert fields["a"] == ({"title": "new", "tags": "sk-secret"}, {"title": "new"})
        assert fields["b"] == ({"title": "T", "tags": "other***"}, {"title": "T"})
