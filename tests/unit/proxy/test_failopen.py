"""A phase that fails open: nothing is forgotten and nothing overtakes, though neither log nor spool may be there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from proxy import failopen
from proxy.creations import Creations
from proxy.doubt import Left
from proxy.failopen import FailOpen, Told
from proxy.fence import Fence
from proxy.judging import Asked, Call, Judges
from proxy.metrics import Metrics
from proxy.mirror import Mirror, NotRecorded, Unrecordable
from proxy.spool import Spool
from proxy.trpc.envelopes import Success
from shadow.contract import parse
from shadow.errors import LogUnavailable, Trouble
from shadow.events import EntityKey, Event
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.locks import EntityLocks
from shadow.log import Log, Waiter
from shadow.privacy import Privacy
from shadow.stages import Stage

CONTRACT = """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]
on_log_failure = "fail_open"

[entity.note]
list = { query = "note.list", input = "{}", items = "output.notes" }
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
event = "note-edited"
channel = "'note:' + input.id"
data = "{'id': input.id, 'text': input.text}"
"""

NOTE = EntityKey("note", "n")
ASKED = Asked("request", received=900)


@dataclass
class Moody:
    """A real log that can be told not to take anything."""

    log: Log
    away: bool = False

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        self._look()
        return await self.log.begin(intents)

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        self._look()
        return await self.log.settle(settlements)

    def begin_then(self, intents: Sequence[NewIntent], told: Waiter[tuple[int, ...]]) -> None:
        self._look()
        self.log.begin_then(intents, told)

    def settle_then(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]]) -> None:
        self._look()
        self.log.settle_then(settlements, told)

    def _look(self) -> None:
        if self.away:
            raise LogUnavailable(Trouble.DISK_FULL, "the disk is full")


@dataclass
class Stand:
    """A mirror with a spool behind it, and what was left to the resolver."""

    mirror: Mirror
    writer: Moody
    fail_open: FailOpen
    fence: Fence
    left: list[Left] = field(default_factory=list)
    adopted: list[int] = field(default_factory=list)

    def edit(self, text: str, index: int = 0) -> Call:
        return Call(index, "note.edit", {"id": "n", "text": text}, self.mirror.contract.mutations["note.edit"])

    def create(self, text: str) -> Call:
        return Call(0, "note.create", {"text": text}, self.mirror.contract.mutations["note.create"])


@pytest.fixture(name="spool")
def _spool(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "calls"


@pytest.fixture(name="stand")
async def _stand(tmp_path: Path, spool: Path) -> AsyncIterator[Stand]:
    contract = parse(CONTRACT, "notes.toml")
    log = Log.open(f"sqlite:///{tmp_path / 'log.db'}")
    writer, locks, fence = Moody(log), EntityLocks(), Fence()
    privacy, left, adopted = Privacy(contract, None), list[Left](), list[int]()
    spool.parent.mkdir()

    def judged(told: Told, intent: int, new_id: Callable[[], str]) -> Settlement:
        asked = told.intent
        judges = Judges(lambda key: state.fields if (state := log.state(key)) else None, log.keys, new_id, privacy)
        call = Call(asked.index, asked.procedure, told.input, contract.mutations[asked.procedure])
        return judges.judge(call, told.output, intent=intent, now=2000, actor=None)

    async def adopt(intent: int) -> None:
        adopted.append(intent)

    def leave(one: Left) -> asyncio.Event:
        left.append(one)
        return asyncio.Event()

    fail_open = FailOpen(
        Spool(spool),
        contract=contract,
        log=log,
        privacy=privacy,
        fence=fence,
        locks=locks,
        judge=judged,
        leave=leave,
        adopt=adopt,
        doubted=lambda: False,
        clock=lambda: 2000,
        pause=0.01,
        patience=3600,
    )
    ids = itertools.count()
    mirror = Mirror(
        contract=contract,
        writer=writer,
        read_state=lambda key: state.fields if (state := log.state(key)) else None,
        keys_of=log.keys,
        locks=locks,
        stage_of=lambda phase: (Stage.DUALWRITE, 1),
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(ids)}",
        metrics=Metrics(),
        privacy=privacy,
        creations=Creations(),
        leave=fail_open.leave,
        fail_open=fail_open,
    )
    yield Stand(mirror, writer, fail_open, fence, left, adopted)
    await fail_open.close()
    await log.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event of its own
            await asyncio.sleep(0.01)


async def shipped(stand: Stand) -> None:
    await until(lambda: not stand.fail_open.waiting)


async def test_what_neither_the_log_nor_the_spool_takes_is_owed_to_the_log(stand: Stand, spool: Path) -> None:
    """The legacy did it and said so: the outcome is known, and is written as soon as anything can be written."""
    async with stand.mirror.attempt([stand.edit("a")], ASKED) as attempt:
        stand.writer.away = True
        spool.parent.rmdir()
        with pytest.raises(NotRecorded):
            await attempt.settle({0: Success(None)})

    (left,) = stand.left
    assert left.keys == (NOTE,)
    assert left.owed is not None
    assert left.owed.outcome is Outcome.APPLIED
    assert stand.mirror.locks.held(NOTE), "until it is written nobody may come after it"


async def test_a_spooled_call_in_doubt_keeps_its_lock_until_the_resolver_has_it(stand: Stand) -> None:
    stand.writer.away = True
    async with stand.mirror.attempt([stand.edit("a")], ASKED):
        pass
    assert stand.mirror.locks.held(NOTE)
    await shipped(stand)

    (left,) = stand.left
    assert (left.procedure, left.reason, left.keys) == ("note.edit", "no_answer", (NOTE,))
    assert stand.writer.log.intents()[0].outcome is Outcome.IN_DOUBT
    assert stand.mirror.locks.held(NOTE)


async def test_the_lock_of_several_spooled_calls_in_doubt_goes_to_the_resolver_once(stand: Stand) -> None:
    stand.writer.away = True
    async with stand.mirror.attempt([stand.edit("a"), stand.edit("b", 1)], ASKED):
        pass
    await shipped(stand)

    assert [left.keys for left in stand.left] == [(), (NOTE,)]


async def test_a_spooled_create_in_doubt_is_under_way_until_the_resolver_has_it(stand: Stand) -> None:
    """Who looks into another create waits until the two can be told apart; who changes what it made waits longer."""
    stand.writer.away = True
    async with stand.mirror.attempt([stand.create("a")], ASKED):
        pass
    assert stand.mirror.creations.any([NOTE])
    await shipped(stand)

    (left,) = stand.left
    assert left.creation is not None
    assert not left.creation.idle.is_set(), "that is for the resolver to say, which has it now"
    assert not left.creation.over.is_set()


async def test_the_log_has_caught_up_when_it_has_all_that_ended(stand: Stand) -> None:
    stand.writer.away = True
    for number in range(3):
        async with stand.mirror.attempt([stand.edit(str(number))], ASKED) as attempt:
            await attempt.settle({0: Success(None)})
    async with asyncio.timeout(60):
        await stand.fail_open.caught_up()

    told = stand.writer.log.read(("note:n",), 0, 10)
    assert [event.draft.change for event in told] == [{"text": "0"}, {"text": "1"}, {"text": "2"}]
    assert not stand.mirror.locks.held(NOTE)


async def test_what_the_log_would_never_take_is_refused_before_it_is_forwarded(stand: Stand) -> None:
    stand.writer.away = True
    nameless = Call(0, "note.edit", {"id": "n\0", "text": "a"}, stand.mirror.contract.mutations["note.edit"])
    with pytest.raises(Unrecordable):
        async with stand.mirror.attempt([nameless], ASKED):
            raise AssertionError("it was forwarded")

    assert stand.fail_open.waiting == 0
    assert not stand.mirror.locks.held(EntityKey("note", "n\0"))


async def test_an_event_that_the_log_refuses_becomes_a_doubt_and_holds_nobody_up(stand: Stand) -> None:
    """The key is the answer's: only when the event is decided is it seen that no database can hold it."""
    stand.writer.away = True
    for key in ("n\0", "n"):
        async with stand.mirror.attempt([stand.create("a")], ASKED) as attempt:
            await attempt.settle({0: Success({"id": key})})
    await shipped(stand)

    assert [intent.outcome for intent in stand.writer.log.intents()] == [Outcome.IN_DOUBT, Outcome.APPLIED]
    assert stand.adopted == [1]


async def test_the_fence_is_not_held_closed_on_who_waits_for_a_call_in_doubt(stand: Stand) -> None:
    """One request waits, inside the fence, for another one, which is in doubt only once the fence is closing."""
    fence, over = stand.fence, asyncio.Event()
    stand.writer.away = True

    async def first() -> None:
        inside = await fence.enter(["notes"])
        async with stand.mirror.attempt([stand.edit("a"), stand.edit("c", 1)], ASKED):
            await over.wait()
        fence.leave(inside)

    async def second() -> None:
        inside = await fence.enter(["notes"])
        async with stand.mirror.attempt([stand.edit("b")], ASKED) as attempt:
            await attempt.settle({0: Success(None)})
        fence.leave(inside)

    async with asyncio.TaskGroup() as group, asyncio.timeout(60):
        group.create_task(first())
        group.create_task(second())
        await until(lambda: fence.closing("notes"))
        over.set()
        await until(lambda: len(stand.left) == 2)
        stand.mirror.locks.release(stand.left[1].keys)
    await shipped(stand)

    told = stand.writer.log.read(("note:n",), 0, 10)
    assert [event.draft.change for event in told] == [{"text": "b"}]


async def test_the_fence_gives_way_to_a_doubt_that_the_log_has(stand: Stand) -> None:
    stand.writer.away = True
    inside = await stand.fence.enter(["notes"])
    async with stand.mirror.attempt([stand.edit("a")], ASKED) as attempt:
        await attempt.settle({0: Success(None)})
    await until(lambda: stand.fence.closing("notes"))
    for intent in (1, 2):
        stand.fail_open.leave(Left(intent, "note.edit", "notes", 900, "reset"))
    await until(lambda: not stand.fence.closing("notes"))
    stand.fence.leave(inside)

    await shipped(stand)


async def test_the_fence_is_not_closed_while_a_call_in_doubt_is_still_to_be_shipped(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was left in doubt while what had ended before it was being shipped."""
    monkeypatch.setattr(failopen, "TRIES", 1_000_000)
    stand.writer.away = True
    inside = await stand.fence.enter(["notes"])
    async with stand.mirror.attempt([stand.edit("a")], ASKED) as attempt:
        await attempt.settle({0: Success(None)})
    stand.fail_open.keep(99, Left(0, "note.edit", "notes", 900, "in_doubt"))
    await until(lambda: not stand.fail_open.waiting)
    await asyncio.sleep(0.05)

    assert not stand.fence.closing("notes")
    stand.fence.leave(inside)
