"""A data port in this process, before a legacy that a test controls, with a real log whose writing can be held up."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.app import Proxy
from proxy.creations import Creations
from proxy.fence import Fence
from proxy.forward import Forwarding
from proxy.metrics import Metrics
from proxy.mirror import Mirror
from proxy.procedures import Procedures
from proxy.refusal import Refusals
from proxy.roads.websocket import WebSocketRoad
from proxy.server import Server, bind, serving
from proxy.subscriptions.routes import subscriptions
from proxy.taps import Taps
from proxy.trpc.transformers import TRANSFORMERS
from proxy.upstream import Limits, Upstream
from shadow.contract import parse
from shadow.events import Draft, Event
from shadow.journal import Intent, NewIntent, Settlement
from shadow.locks import EntityLocks
from shadow.log import Log, Waiter
from shadow.privacy import Privacy
from shadow.stages import Stage
from shadow.tail import Tail
from shadow.tasks import Tasks

NOTES = """
[legacy]
base_path = "/trpc"

[phase.notes]
entities = ["note"]

[phase.other]
entities = ["thing"]

[entity.note]
get = { query = "note.get", input = "{'id': key}" }
key = "item.id"
fields = ["text"]

[entity.thing]
get = { query = "thing.get", input = "{'id': key}" }
key = "item.id"
fields = ["text"]

[mutation."note.edit"]
entity = "note"
key = "input.id"
effect = "put"
event = "note-edited"
channel = "'note:' + input.id"
data = "{'id': input.id, 'text': input.text}"

[mutation."note.upload"]
entity = "note"
key = "output.id"
effect = "create"
event = "note-uploaded"
channel = "'note:' + output.id"
data = "{'id': output.id, 'type': input.contentType, 'size': input.size}"
set = "{'text': input.contentType}"

[tap."note.follow"]
channel = "'note:' + item.id"

[[tap."note.follow".events]]
when = "item.type == 'made'"
entity = "note"
key = "item.id"
effect = "create"
event = "note-made"
data = "{'id': item.id}"
set = "{'text': item.text}"

[[tap."note.follow".events]]
when = "item.type == 'delta'"
event = "note-delta"
durable = false
data = "{'id': item.id, 'text': item.text}"
"""
"""A small contract for such a legacy."""


class GatedWriter:
    """A real log that writes outcomes and events only while the gate is open."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.tasks = Tasks()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        """Set when somebody came to settle or append."""

    async def begin(self, intents: Sequence[NewIntent]) -> tuple[int, ...]:
        """Write intents at once."""
        return await self.log.begin(intents)

    async def settle(self, settlements: Sequence[Settlement]) -> tuple[Event, ...]:
        """Write outcomes once the gate is open."""
        self.reached.set()
        await self.gate.wait()
        return await self.log.settle(settlements)

    def begin_then(self, intents: Sequence[NewIntent], told: Waiter[tuple[int, ...]]) -> None:
        """Write intents at once."""
        self.log.begin_then(intents, told)

    def settle_then(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]]) -> None:
        """Write outcomes once the gate is open."""
        self.reached.set()
        if self.gate.is_set():
            self.log.settle_then(settlements, told)
        else:
            self.tasks.spawn(self._settle_later(settlements, told), name="gate")

    async def _settle_later(self, settlements: Sequence[Settlement], told: Waiter[tuple[Event, ...]]) -> None:
        await self.gate.wait()
        self.log.settle_then(settlements, told)

    async def append(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Write events once the gate is open."""
        self.reached.set()
        await self.gate.wait()
        return await self.log.append(drafts)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A running data port; `url` has no path."""

    url: str
    server: Server
    log: Log
    writer: GatedWriter
    tail: Tail
    proxy: Proxy

    def events(self) -> list[Event]:
        """Everything in the log."""
        return self.log.read(("*",), 0, 1000)

    def intents(self) -> list[Intent]:
        """Every intent, oldest first."""
        return [intent for number in range(1, 1000) if (intent := self.log.intent(number))]


@asynccontextmanager
async def mirrored(legacy: str, data: Path, *, contract: str = NOTES, patience: float = 60) -> AsyncIterator[Mirrored]:
    """Serve a data port before `legacy`, every phase at dualwrite; the log is in the directory `data`."""
    checked = parse(contract, "contract.toml")
    log = Log.open(f"sqlite:///{data / 'log.db'}")
    writer = GatedWriter(log)
    upstream = Upstream(legacy, limits=Limits(response_timeout=patience))
    metrics = Metrics()
    numbers = itertools.count()

    transformer = TRANSFORMERS[checked.legacy.transformer]
    mirror = Mirror(
        contract=checked,
        writer=writer,
        read_state=lambda key: state.fields if (state := log.state(key)) else None,
        keys_of=log.keys,
        locks=EntityLocks(),
        creations=Creations(),
        stage_of=lambda phase: (Stage.DUALWRITE, 1),
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(numbers)}",
        metrics=metrics,
        privacy=Privacy(checked, None),
    )
    channels = subscriptions(
        log,
        checked,
        upstream,
        metrics,
        refuse=Refusals(transformer),
        token=None,
        clock=lambda: 1000,
        new_id=lambda: f"event-{next(numbers)}",
    )
    fence = Fence()
    taps = Taps(mirror, fence, writer.append, channels.feed.tail.ephemeral)
    sockets = WebSocketRoad(mirror, fence, taps, transformer, patience)
    proxy = Proxy(
        contract=checked,
        mirror=mirror,
        fence=fence,
        upstream=upstream,
        procedures=Procedures(checked, upstream, transformer, lambda: 0.0),
        sockets=sockets,
        taps=taps,
        subscriptions=channels,
        metrics=metrics,
        transformer=transformer,
        forwarding=Forwarding(tell=False),
        refuse=Refusals(transformer),
        max_body=1 << 20,
        actor_header=b"",
        clock=lambda: 1000,
        new_id=lambda: f"request-{next(numbers)}",
        answers=log,
    )
    try:
        async with serving(proxy, bind("127.0.0.1", 0), grace=1) as server:
            yield Mirrored(f"http://127.0.0.1:{server.port}", server, log, writer, channels.feed.tail, proxy)
    finally:
        await upstream.close()
        await log.close()
