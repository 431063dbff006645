"""Composes one running proxy: contract, log, legacy, data port and admin port; and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TextIO, cast

import structlog
import uvloop

from changeover.output import BestEffort, emit_json
from changeover.settings import Settings
from changeover.watching import Proofs, watching
from proxy.admin import admin_app
from proxy.app import Proxy
from proxy.creations import Creations
from proxy.doubt import Doubts
from proxy.failopen import DIRTY, FailOpen, Told
from proxy.fence import Fence
from proxy.forward import Forwarding
from proxy.framing import RequestHead
from proxy.judging import Call, Judges
from proxy.lifecycle import Lifecycle
from proxy.metrics import Metrics
from proxy.mirror import Mirror
from proxy.observation import Observer, Overlaps
from proxy.procedures import Procedures
from proxy.reading import LegacyReader
from proxy.refusal import Refusals
from proxy.roads.websocket import WebSocketRoad
from proxy.server import Server, bind
from proxy.spool import Spool
from proxy.subscriptions.publish import Publisher, published_told, read_publication
from proxy.subscriptions.routes import subscriptions
from proxy.taps import Taps
from proxy.trpc.transformers import TRANSFORMERS
from proxy.upstream import Limits, Upstream, UpstreamError
from shadow.contract import Contract, load
from shadow.events import Draft, EntityKey
from shadow.ids import new_id, new_name
from shadow.journal import QUARANTINED, Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.stages import Stage, StageStore, Standing, TransitionRefused
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; returns when everything in flight was drained."""
    configure_logging()
    uvloop.run(_serve(settings))


def collect_less_often() -> None:
    """Keep the garbage collector from walking over all that stays: the modules, the contract, the caches.

    A mutation leaves no cycles behind, so reference counts free almost everything at once.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def configure_logging() -> None:
    """Log JSON lines to standard error; nothing secret is ever handed to the log.

    A line that cannot be written, as on a full disk, is dropped: what it tells of must go on.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", BestEffort(sys.stderr))),
    )


def clock() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Running:
    """The parts of a running proxy that its admin port and its end need."""

    settings: Settings
    contract: Contract
    log: Log
    stages: Stages
    fence: Fence
    upstream: Upstream
    metrics: Metrics
    proofs: Proofs
    fail_open: FailOpen
    publisher: Publisher

    def render_metrics(self) -> bytes:
        """Return the metrics in the Prometheus text format."""
        return self.metrics.render()

    def ready(self) -> bool:
        """Tell whether the log can be written."""
        return self.log.trouble is None

    async def publish(self, event: Json) -> Json:
        """Put an event on the stream as clients may, without asking who may see its channel."""
        publication = read_publication(event, self.log.head.epoch)
        return published_told(await self.publisher.publish(publication, actor="admin"))

    async def append(self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int]) -> int:
        """Append events for a command that found the log in this process's hands."""
        events = await self.log.append(drafts, expected=expected)
        return events[-1].position if events else self.log.head.position

    async def status(self) -> Json:
        """Return everything `changeover status` shows."""
        tallies, doubts = await asyncio.gather(asyncio.to_thread(self.log.tallies), asyncio.to_thread(self.log.doubts))
        by_procedure: dict[str, dict[str, Json]] = defaultdict(dict)
        for tally in tallies:
            row = by_procedure[tally.procedure]
            row |= {"procedure": tally.procedure, "mapped": tally.phase is not None}
            row[tally.outcome.value] = tally.count
        in_doubt: dict[str | None, int] = defaultdict(int)
        for intent in doubts:
            in_doubt[intent.phase] += 1
        dirty = {
            phase
            for phase in self.contract.phases
            if await asyncio.to_thread(self.log.state, EntityKey(DIRTY, phase)) is not None
        }
        return {
            "legacy": {"url": self.settings.legacy, "reachable": await reachable(self.upstream)},
            "log": {
                "cursor": str(self.log.head),
                "state": self.log.trouble.value if self.log.trouble else "writable",
                "spooled": self.fail_open.waiting,
            },
            "contract": {"hash": self.contract.hash, "file": str(self.settings.contract)},
            "phases": [
                {
                    "phase": standing.phase,
                    "stage": standing.stage.value,
                    "epoch": standing.epoch,
                    "in_flight": self.fence.inside(standing.phase),
                    "doubts": in_doubt[standing.phase],
                    "dirty": self.fail_open.dirty_since(standing.phase) is not None or standing.phase in dirty,
                    **self.proofs.of(standing.phase, clock()),
                }
                for standing in self.stages.standings()
            ],
            "doubts": {
                "count": len(doubts),
                "quarantined": sum(1 for intent in doubts if (intent.detail or "").startswith(QUARANTINED)),
                "oldest_seconds": max(0, clock() - doubts[0].received) / 1000 if doubts else None,
            },
            "mutations": [by_procedure[name] for name in sorted(by_procedure)],
            "not_mirrored": self.metrics.not_mirrored_counts(),
        }

    async def standings(self) -> Json:
        """Return each phase's stage and epoch."""
        return [
            {"phase": each.phase, "stage": each.stage.value, "epoch": each.epoch} for each in self.stages.standings()
        ]

    async def set_stage(self, phase: str, stage: str, *, reason: str, actor: str | None) -> Json:
        """Drain what is in flight, then change the phase's stage; raises `Mendable` when it is refused."""
        before, after = await self.stages.move(phase, stage, reason=reason, actor=actor)
        return {
            "phase": phase,
            "from": before.stage.value,
            "stage": after.stage.value,
            "epoch": after.epoch,
            "cursor": str(self.log.head),
        }


class Stages:
    """The stages as the data plane asks for them: from memory, kept right by every commit."""

    def __init__(self, store: StageStore, fence: Fence, *, drain: float) -> None:
        self._store = store
        self._fence = fence
        self._drain = drain
        self._standing = {phase: store.standing(phase) for phase in store.phases}

    def stage_of(self, phase: str) -> tuple[Stage, int]:
        """Return the stage and the stage epoch of a phase."""
        standing = self._standing[phase]
        return standing.stage, standing.epoch

    def standings(self) -> list[Standing]:
        """Return where all phases stand."""
        return list(self._standing.values())

    async def move(self, phase: str, stage: str, *, reason: str, actor: str | None) -> tuple[Standing, Standing]:
        """Close the phase's fence, let it drain, change the stage, open it; returns the standings before and after.

        Raises `FenceBusy` when the drain takes too long and `TransitionRefused` for a step that there is not.
        """
        wanted = parse_stage(phase, stage)
        async with self._fence.closed(phase, timeout=self._drain):
            before = self._store.standing(phase)
            now = clock()
            after = await self._store.change(
                phase, wanted, epoch=before.epoch, now=now, id=new_id(now), actor=actor, reason=reason
            )
            self._standing[phase] = after
        return before, after


def parse_stage(phase: str, text: str) -> Stage:
    """Return the stage called `text`; raises `TransitionRefused`."""
    try:
        return Stage(text)
    except ValueError:
        names = ", ".join(stage.value for stage in Stage)
        raise TransitionRefused(f"phase {phase} cannot go to {text!r}: the stages are {names}") from None


async def reachable(upstream: Upstream) -> bool:
    """Tell whether the legacy answers at all."""
    head = RequestHead(b"HEAD", b"/", [(b"Host", b"legacy")])
    try:
        answer = await asyncio.wait_for(upstream.request(head, b""), 3)
    except (UpstreamError, TimeoutError):
        return False
    answer.close()
    return True


async def _serve(settings: Settings) -> None:
    contract = load(settings.contract)
    privacy = Privacy(contract, settings.keyring)
    initial = parse_stage("of a new log", settings.initial_stage)
    stopping, hurrying = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked_to_stop() -> None:
        (hurrying if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop)
    listener = bind(settings.host, settings.port)
    admin_listener = bind(settings.admin_host, settings.admin_port)
    log = Log.open(settings.database)
    upstream = Upstream(settings.legacy, limits=Limits(response_timeout=settings.response_timeout))
    try:
        async with _listening(settings, contract, privacy, initial, log, upstream, listener, admin_listener, hurrying):
            await stopping.wait()
            logger.info("stopping", in_flight=True)
    finally:
        await upstream.close()
        await log.close()


async def _stop(server: Server, drain: float, hurrying: asyncio.Event) -> None:
    """Let what runs come to its end for `drain` seconds, or until somebody asks a second time."""
    async with asyncio.TaskGroup() as group:
        hurried = group.create_task(hurrying.wait())
        hurried.add_done_callback(lambda task: None if task.cancelled() else server.hurry())
        await server.stop(drain)
        hurried.cancel()


@asynccontextmanager
async def _listening(
    settings: Settings,
    contract: Contract,
    privacy: Privacy,
    initial: Stage,
    log: Log,
    upstream: Upstream,
    listener: socket.socket,
    admin_listener: socket.socket,
    hurrying: asyncio.Event,
) -> AsyncIterator[None]:
    metrics = Metrics()
    fence = Fence()
    stages = Stages(StageStore(log, tuple(contract.phases), initial=initial), fence, drain=settings.drain)
    transformer = TRANSFORMERS[contract.legacy.transformer]
    locks, creations = EntityLocks(), Creations()
    reader = LegacyReader(
        upstream,
        base_path=contract.legacy.base_path,
        transformer=transformer,
        token=settings.legacy_token,
    )

    async def caught_up() -> None:
        await fail_open.caught_up()

    doubts = Doubts(
        contract=contract,
        log=log,
        reader=reader,
        locks=locks,
        creations=creations,
        keys_of=log.keys,
        clock=clock,
        new_id=lambda: new_id(clock()),
        privacy=privacy,
        caught_up=caught_up,
    )
    metrics.watch_doubts(lambda: doubts.standing, clock)

    def read_state(key: EntityKey) -> dict[str, Json] | None:
        state = log.state(key)
        return None if state is None else state.fields

    def judged(told: Told, intent: int, new_event: Callable[[], str]) -> Settlement:
        asked = told.intent
        call = Call(asked.index, asked.procedure, told.input, contract.mutations.get(asked.procedure))
        judges = Judges(read_state, log.keys, new_event, privacy)
        return judges.judge(call, told.output, intent=intent, now=clock(), actor=asked.actor)

    fail_open = FailOpen(
        Spool(settings.spool_file),
        contract=contract,
        log=log,
        privacy=privacy,
        fence=fence,
        locks=locks,
        judge=judged,
        leave=doubts.leave,
        adopt=doubts.adopt,
        doubted=lambda: doubts.holds_up,
        clock=clock,
    )
    metrics.watch_spool(lambda: fail_open.waiting)
    mirror = Mirror(
        contract=contract,
        writer=log,
        read_state=read_state,
        keys_of=log.keys,
        locks=locks,
        stage_of=stages.stage_of,
        clock=clock,
        new_id=lambda: new_id(clock()),
        metrics=metrics,
        privacy=privacy,
        creations=creations,
        leave=fail_open.leave,
        never_sent=doubts.never_sent,
        fail_open=fail_open,
        observer=Observer(contract, log, reader, privacy, Overlaps(), clock, lambda: new_id(clock())),
    )
    channels = subscriptions(
        log,
        contract,
        upstream,
        metrics,
        refuse=Refusals(transformer),
        token=settings.subscriber_token,
        max_body=settings.max_body,
        clock=clock,
        new_id=lambda: new_id(clock()),
    )
    taps = Taps(mirror, fence, log.append, channels.feed.tail.ephemeral)
    sockets = WebSocketRoad(mirror, fence, taps, transformer, upstream.limits.response_timeout)
    proxy = Proxy(
        contract=contract,
        mirror=mirror,
        fence=fence,
        upstream=upstream,
        procedures=Procedures(contract, upstream, transformer, time.monotonic),
        sockets=sockets,
        taps=taps,
        subscriptions=channels,
        metrics=metrics,
        transformer=transformer,
        forwarding=Forwarding(),
        refuse=Refusals(transformer),
        max_body=settings.max_body,
        actor_header=settings.actor_header.lower().encode(),
        clock=clock,
        new_id=new_name,
        answers=log,
        keep_answers=settings.keep_answers,
    )
    proofs = Proofs(log, metrics)
    running = Running(settings, contract, log, stages, fence, upstream, metrics, proofs, fail_open, channels.publisher)
    data, admin = Server(proxy, listener), Server(admin_app(running, token=settings.admin_token), admin_listener)
    if shipped := await fail_open.recover():
        logger.warning("spool_taken_over", calls=shipped)
    if recovered := await doubts.recover():
        logger.warning("doubts_taken_over", count=recovered)
    await data.start()
    await admin.start()
    channels.feed.start()
    background = Tasks()
    lifecycle = Lifecycle(
        log,
        upstream.address,
        clock=clock,
        new_id=lambda: new_id(clock()),
        on_up=channels.sockets.legacy_up,
    )
    try:
        if not await reachable(upstream):
            logger.warning("legacy_unreachable", legacy=settings.legacy, meaning="calls get 502 until it answers")
        async with lifecycle.told({"contract": contract.hash}), watching(settings, contract, log, clock):
            collect_less_often()
            emit_json(
                {
                    "ready": True,
                    "url": f"http://{settings.host}:{data.port}",
                    "admin": f"http://{settings.admin_host}:{admin.port}",
                    "pid": os.getpid(),
                }
            )
            yield
    finally:
        await background.cancel()
        await channels.feed.close()
        await _stop(data, settings.drain, hurrying)
        await admin.stop(1)
        await fail_open.close()
        await doubts.close()
