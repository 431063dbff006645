"""Composes one running proxy: contract, log, legacy, data port and admin port; and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TextIO, cast

import structlog
import uvloop

from changeover.clock import clock
from changeover.output import BestEffort, emit_json
from changeover.running import Running, reachable
from changeover.settings import Settings
from changeover.staging import Stages, parse_stage
from changeover.watching import Proofs, watching
from proxy.admin import admin_app
from proxy.app import Proxy
from proxy.creations import Creations
from proxy.doubt import Doubts
from proxy.failopen import FailOpen, Told
from proxy.fence import Fence
from proxy.forward import Forwarding
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
from proxy.subscriptions.routes import subscriptions
from proxy.taps import Taps
from proxy.trpc.transformers import TRANSFORMERS
from proxy.upstream import Limits, Upstream
from shadow.contract import Contract, load
from shadow.events import EntityKey
from shadow.ids import new_id, new_name
from shadow.journal import Settlement
from shadow.json import Json
from shadow.locks import EntityLocks
from shadow.log import Log
from shadow.privacy import Privacy
from shadow.stages import Stage, StageStore
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
    stages = Stages(log, StageStore(log, tuple(contract.phases), initial=initial), fence, drain=settings.drain)
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
