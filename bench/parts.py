"""What the parts of one mutation's way cost in the event loop's thread: `python -m bench.parts`.

Each part is done over and over, alone, on the example contract's `session.updateTitle`; the least of several timings
counts. In a row they cost about half as much again, because together they do not fit into the processor's first cache.
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from bench.servers import CONTRACT
from changeover.clock import clock
from changeover.serve import collect_less_often
from proxy.claims import Claims
from proxy.creations import Creations
from proxy.fence import Fence
from proxy.forward import Forwarding, Scope, outgoing_head
from proxy.framing import Pairs, headers_named
from proxy.judging import Asked, Call
from proxy.metrics import Metrics
from proxy.mirror import Mirror
from proxy.observation import Observer, Overlaps
from proxy.plans import Plan, Plans
from proxy.reading import LegacyReader
from proxy.roads.json import read_answer, readable_answer
from proxy.trpc.envelopes import Success
from proxy.trpc.inputs import decode_inputs
from proxy.trpc.transformers import TRANSFORMERS
from proxy.trpc.values import UNDEFINED
from proxy.upstream import Answer, Upstream
from shadow.batch import Batch, Head, Standing
from shadow.contract import load
from shadow.events import GENESIS, Event
from shadow.ids import new_id, new_name
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.locks import EntityLocks
from shadow.log import Log, Waiter
from shadow.privacy import Privacy
from shadow.secrets import Keyring
from shadow.stages import Stage

TIMES: Final = 5_000
BODY: Final = b'{"sessionId":"0123abcd-7b1c-4f4e-9d53-0123456789ab","title":"The title after change 12"}'
HEADERS: Final[Pairs] = [
    (b"host", b"127.0.0.1:4000"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
]
SAID: Final = b'{"result":{}}'


class Nowhere:
    """A log that takes everything at once and keeps nothing."""

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Take intents."""
        return tuple(range(1, len(intents) + 1))

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        """Take outcomes."""
        return ()

    def begin_then(self, intents: Sequence[NewIntent], told: Waiter[tuple[int, ...]]) -> None:
        """Take intents."""
        told.set_result(tuple(range(1, len(intents) + 1)))

    def settle_then(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]]) -> None:
        """Take outcomes."""
        told.set_result(())


async def timed(work: Callable[[], object | Awaitable[object]], *, awaits: bool = False) -> float:
    """Return the least time that `work` took, in microseconds of this thread's processor time."""
    least = float("inf")
    for _ in range(7):
        start = time.thread_time()
        if awaits:
            for _ in range(TIMES):
                await work()  # type: ignore[misc] # it is awaitable, as `awaits` says
        else:
            for _ in range(TIMES):
                work()
        least = min(least, (time.thread_time() - start) / TIMES)
    return least * 1e6


async def parts(folder: Path) -> list[tuple[str, float]]:
    """Time everything."""
    contract = load(CONTRACT)
    log = Log.open(f"sqlite:///{folder / 'log.db'}")
    transformer = TRANSFORMERS[contract.legacy.transformer]
    upstream = Upstream("http://127.0.0.1:1")
    privacy = Privacy(contract, Keyring.parse(f"bench:{base64.b64encode(os.urandom(32)).decode()}"))
    reader = LegacyReader(upstream, base_path=contract.legacy.base_path, transformer=transformer)
    metrics, fence, plans = Metrics(), Fence(), Plans(contract)
    mirror = Mirror(
        contract=contract,
        writer=Nowhere(),
        read_state=lambda key: {"title": "The title before"},
        keys_of=lambda entity: (),
        locks=EntityLocks(),
        stage_of=lambda phase: (Stage.DUALWRITE, 1),
        clock=clock,
        new_id=lambda: new_id(clock()),
        metrics=metrics,
        privacy=privacy,
        creations=Creations(),
        observer=Observer(contract, log, reader, privacy, Overlaps(), clock, lambda: new_id(clock())),
    )
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "raw_path": b"/trpc/session.updateTitle",
        "query_string": b"",
        "headers": HEADERS,
        "client": ("127.0.0.1", 3),
    }
    plan = plans.post(scope["raw_path"], b"")
    assert isinstance(plan, Plan)
    rule = plan.rules[0]
    assert rule is not None
    (given,) = decode_inputs(plan.calls, "POST", BODY, transformer)
    calls = [Call(0, "session.updateTitle", given, rule)]
    asked = Asked(new_name(), clock())
    head = outgoing_head(scope, Forwarding())
    answer = Answer(200, b"OK", [(b"Content-Type", b"application/json")], len(SAID), _Nobody())
    outcome = Success(UNDEFINED)
    settlement = mirror.judges.judge(calls[0], None, intent=1, now=clock(), actor=None)
    read = frozenset({b"content-type", b"idempotency-key"})
    told: Waiter[object] = _Hearing()

    def through_the_fence() -> None:
        fence.enter_open(plan.phases)
        fence.leave(plan.phases)

    def claimed() -> None:
        claims = Claims(mirror.ground, calls, asked.received)
        claims.take_free()
        claims.release()

    async def awaited() -> None:
        async with mirror.attempt(calls, asked) as attempt:
            await attempt.settle({0: outcome})

    def attempted() -> None:
        attempt = mirror.attempt(calls, asked)
        attempt.claim_at_once()
        attempt.begin_at_once(told)
        attempt.begun_at_once((1,))
        settlements = attempt.judged_at_once((outcome,))
        assert settlements is not None
        attempt.settle_at_once(settlements, told)
        attempt.settled_at_once()

    def batched() -> None:
        batch = Batch(Head(10, GENESIS, 0, 1), lambda key: None, {1: Standing(Outcome.OPEN)}.get, {})
        batch.settle([settlement])

    found = [
        ("what is called, by which rule", await timed(lambda: plans.post(scope["raw_path"], b""))),
        ("through the fence", await timed(through_the_fence)),
        ("headers that matter", await timed(lambda: headers_named(HEADERS, read))),
        ("who asks, and when", await timed(lambda: Asked(new_name(), clock()))),
        ("the input, decoded", await timed(lambda: decode_inputs(plan.calls, "POST", BODY, transformer))),
        ("the head for the legacy", await timed(lambda: readable_answer(outgoing_head(scope, Forwarding())))),
        ("the answer, decoded", await timed(lambda: read_answer(1, answer, SAID, transformer))),
        ("the attempt: intent, locks, events, outcome", await timed(attempted)),
        ("… the same where everything is waited for", await timed(awaited, awaits=True)),
        ("… of it claims on the entity", await timed(claimed)),
        ("… of it the contract's judgement", await timed(_judging(mirror, calls[0]))),
        ("… of it counting", await timed(lambda: metrics.mutation("p", Outcome.APPLIED, mapped=True))),
        ("in the writer's thread: one settlement decided", await timed(batched)),
    ]
    assert head.target == scope["raw_path"]
    await log.close()
    return found


class _Hearing:
    """Who does nothing with what it is told."""

    def cancelled(self) -> bool:
        """It hears of everything."""
        return False

    def set_result(self, result: object) -> None:
        """Nothing comes of it."""

    def set_exception(self, error: BaseException) -> None:
        """Nothing goes wrong here."""
        raise error


class _Nobody:
    """Where an answer comes from that is here already."""

    def set_reading(self, reading: bool) -> None:
        """Nothing is read."""

    def abandon(self) -> None:
        """Nothing is broken off."""


def _judging(mirror: Mirror, call: Call) -> Callable[[], object]:
    return lambda: mirror.judges.judge(call, None, intent=1, now=1, actor=None)


def main() -> None:
    """Time and print."""
    folder = Path(tempfile.mkdtemp(prefix="bench-parts-"))
    collect_less_often()
    try:
        found = uvloop.run(parts(folder))
    finally:
        shutil.rmtree(folder)
    table = Table("part", "µs")
    for name, microseconds in found:
        table.add_row(name, f"{microseconds:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
