"""What an attempt promises: durable intents first, one transaction per settlement, nothing left unsaid."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.creations import Creations
from proxy.judging import Asked, Call
from proxy.metrics import Metrics
from proxy.mirror import COMMITTED_WITHIN, Mirror, Unrecordable
from proxy.trpc.envelopes import Failure, Success, Unknown
from shadow.contract import Contract, parse
from shadow.errors import LogUnavailable
from shadow.events import EntityKey
from shadow.journal import Intent, Outcome
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.stages import Stage

CONTRACT = """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["text"]

[mutation."note.create"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-created"
channel = "'note:' + output.id"
data = "{'id': output.id, 'text': input.text}"

[mutation."note.edit"]
entity = "note"
key = "input.id"
effect = "patch"
success = "output.success"
event = "note-edited"
channel = "'note:' + input.id"
data = "{'id': input.id, 'text': input.text}"
"""


@pytest.fixture(name="log")
async def _log(tmp_path: Path) -> AsyncIterator[Log]:
    log = Log.open(f"sqlite:///{tmp_path / 'log.db'}")
    yield log
    await log.close()


@pytest.fixture(name="mirror")
def _mirror(log: Log) -> Mirror:
    ids = itertools.count()
    contract: Contract = parse(CONTRACT, "notes.toml")
    return Mirror(
        contract=contract,
        writer=log,
        read_state=lambda key: state.fields if (state := log.state(key)) else None,
        keys_of=log.keys,
        locks=EntityLocks(),
        stage_of=lambda phase: (Stage.DUALWRITE, 3),
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(ids)}",
        metrics=Metrics(),
        privacy=Privacy(contract, None),
        creations=Creations(),
    )


def call(mirror: Mirror, procedure: str, given: Json, index: int = 0) -> Call:
    return Call(index, procedure, given, mirror.contract.mutations.get(procedure))


def only_intent(log: Log) -> Intent:
    (intent,) = log.intents()
    return intent


ASKED = Asked("request", received=900, actor="ana")


async def test_an_intent_is_durable_before_anything_can_be_forwarded(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED) as attempt:
        intent = only_intent(log)
        await attempt.settle({0: Success({"success": True})})

    assert (intent.outcome, intent.entity_key, intent.stage_epoch) == (Outcome.OPEN, EntityKey("note", "n"), 3)
    assert intent.received == 900
    assert intent.deadline == 1000 + 1000 * mirror.contract.legacy.max_request, "counted from when it is forwarded"


async def test_a_result_becomes_an_event_and_state_in_one_transaction(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.create", {"text": "a"})], ASKED) as attempt:
        (event,) = await attempt.settle({0: Success({"id": "n"})})

    assert (event.draft.type, event.draft.actor, event.draft.cause) == ("note-created", "ana", "intent:1")
    assert only_intent(log).outcome is Outcome.APPLIED
    state = log.state(EntityKey("note", "n"))
    assert state is not None
    assert (state.fields, state.position) == ({"text": "a"}, event.position)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Success({"success": False}), Outcome.REJECTED),
        (Failure("BAD_REQUEST", 400, proven=True), Outcome.REJECTED),
        (Failure("INTERNAL_SERVER_ERROR", 500, proven=False), Outcome.IN_DOUBT),
        (Unknown("truncated"), Outcome.IN_DOUBT),
        (Success({"success": True}, interrupted=True), Outcome.IN_DOUBT),
        (Success({"unexpected": True}), Outcome.IN_DOUBT),
    ],
)
async def test_only_what_the_legacy_applied_leads_to_an_event(
    mirror: Mirror, log: Log, answer: Success | Failure | Unknown, outcome: Outcome
) -> None:
    """A failure without proof, no answer, or a result that the contract cannot read are doubts, not facts."""
    async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED) as attempt:
        assert await attempt.settle({0: answer}) == ()

    assert only_intent(log).outcome is outcome


async def test_what_is_left_unsettled_is_in_doubt(mirror: Mirror, log: Log) -> None:
    with pytest.raises(ZeroDivisionError):
        async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED):
            raise ZeroDivisionError

    intent = only_intent(log)
    assert (intent.outcome, intent.detail) == (Outcome.IN_DOUBT, "aborted")


async def test_a_call_that_provably_never_arrived_is_not_applied(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED) as attempt:
        await attempt.not_sent("connect_refused")

    assert (only_intent(log).outcome, only_intent(log).detail) == (Outcome.NOT_APPLIED, "connect_refused")


async def test_a_mutation_without_a_rule_is_recorded_as_unmapped(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.unknown", {"x": 1})], ASKED) as attempt:
        assert await attempt.settle({0: Success(None)}) == ()

    intent = only_intent(log)
    assert (intent.phase, intent.outcome, intent.detail) == (None, Outcome.APPLIED, "unmapped")


async def test_a_settlement_that_comes_twice_counts_once(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED) as attempt:
        first = await attempt.settle({0: Success({"success": True})})
        again = await attempt.settle({0: Success({"success": True}), 7: Success(None)})

    assert (len(first), again, log.head.position) == (1, (), 1)


async def test_an_entity_is_free_when_its_call_is_settled_though_others_of_the_request_go_on(mirror: Mirror) -> None:
    calls = [call(mirror, "note.edit", {"id": key, "text": "t"}, index) for index, key in enumerate("ab")]
    async with mirror.attempt(calls, ASKED) as attempt:
        await attempt.settle({0: Success({"success": True})})
        assert not mirror.locks.held(EntityKey("note", "a"))
        assert mirror.locks.held(EntityKey("note", "b"))
        await attempt.settle({1: Success({"success": True})})

    assert len(mirror.locks) == 0


async def test_two_attempts_on_one_entity_run_one_after_the_other(mirror: Mirror) -> None:
    order: list[str] = []

    async def edit(name: str) -> None:
        async with mirror.attempt([call(mirror, "note.edit", {"id": "n", "text": name})], ASKED) as attempt:
            order.append(f"{name} sent")
            await asyncio.sleep(0)
            await attempt.settle({0: Success({"success": True})})
            order.append(f"{name} settled")

    async with asyncio.TaskGroup() as group:
        for name in ("a", "b"):
            group.create_task(edit(name))

    assert order == ["a sent", "a settled", "b sent", "b settled"]


async def test_a_call_whose_intent_took_too_long_to_write_is_not_forwarded(mirror: Mirror, log: Log) -> None:
    """The resolver believes that calls are forwarded soon after their intents."""
    times = iter([1000, 1000 + COMMITTED_WITHIN + 1, *[20_000] * 5])
    slow = dataclasses.replace(mirror, clock=lambda: next(times))
    with pytest.raises(LogUnavailable):
        async with slow.attempt([call(mirror, "note.edit", {"id": "n", "text": "a"})], ASKED):
            pytest.fail("it was forwarded")
    (intent,) = log.intents()
    assert (intent.outcome, intent.detail) == (Outcome.NOT_APPLIED, "log_slow")
    assert not len(mirror.locks)


async def test_a_call_that_no_log_can_hold_is_not_forwarded(mirror: Mirror, log: Log) -> None:
    with pytest.raises(Unrecordable, match="NUL"):
        async with mirror.attempt([call(mirror, "note.edit", {"id": "a\0b", "text": "a"})], ASKED):
            pytest.fail("it was forwarded")
    assert log.intents() == []
    assert not len(mirror.locks)


async def test_what_the_legacy_made_and_no_log_can_hold_is_in_doubt(mirror: Mirror, log: Log) -> None:
    async with mirror.attempt([call(mirror, "note.create", {"text": "a"})], ASKED) as attempt:
        assert await attempt.settle({0: Success({"id": "a\0b"})}) == ()
    (intent,) = log.intents()
    assert (intent.outcome, intent.detail) == (Outcome.IN_DOUBT, "contract:unrecordable")
