"""Which requests are about events, and who answers them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from proxy.forward import Receive, Refuse, Scope, Send, send_whole
from proxy.metrics import Metrics
from proxy.subscriptions.calls import OverlayCalls
from proxy.subscriptions.feed import Feed, Pace
from proxy.subscriptions.overlay import Overlay
from proxy.subscriptions.plain import Plain
from proxy.subscriptions.publish import Publisher
from proxy.subscriptions.snapshot import Snapshots
from proxy.subscriptions.visibility import Visibility
from proxy.subscriptions.websocket import OverlaySockets
from proxy.trpc.transformers import TRANSFORMERS
from proxy.upstream import Upstream
from shadow.contract import Contract
from shadow.events import Event
from shadow.log import Log
from shadow.tail import ReadLog, Selection, Tail

EVENTS = "/_changeover/events"
SNAPSHOT = "/_changeover/snapshot"


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Everything that the data port says about events."""

    feed: Feed
    plain: Plain
    calls: OverlayCalls
    sockets: OverlaySockets
    publisher: Publisher
    refuse: Refuse

    async def reserved(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request under the reserved prefix."""
        match scope["path"], scope["method"]:
            case "/_changeover/events", "GET":
                await self.plain.events(scope, receive, send)
            case "/_changeover/events", "POST":
                await self.plain.publish(scope, receive, send)
            case "/_changeover/snapshot", "GET":
                await self.plain.snapshot(scope, send)
            case _:
                sentence = f"what is served here is GET and POST {EVENTS} and GET {SNAPSHOT}"
                await send_whole(send, *self.refuse(scope, 404, sentence))

    async def reserved_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a WebSocket under the reserved prefix."""
        await self.plain.socket(scope, receive, send)


def subscriptions(
    log: Log,
    contract: Contract,
    upstream: Upstream,
    metrics: Metrics,
    *,
    refuse: Refuse,
    token: str | None,
    clock: Callable[[], int],
    new_id: Callable[[], str],
    max_body: int = 1 << 20,
    pace: Pace | None = None,
) -> Subscriptions:
    """Compose the subscriptions of a log that this process writes; the feed is not started yet."""
    tail = Tail(_reading(log), log.head.position)
    log.on_commit(tail.committed)
    transformer = TRANSFORMERS[contract.legacy.transformer]
    feed = Feed(tail, log.head.epoch, metrics, latest=_latest(log), pace=pace)
    visibility = Visibility(contract, upstream, transformer, token, time.monotonic)
    publisher = Publisher(contract, log, tail, clock, new_id)
    snapshots = Snapshots(log, tuple(contract.entities))
    overlay = Overlay(contract, transformer, feed, visibility, publisher, snapshots, log)
    return Subscriptions(
        feed,
        Plain(feed, visibility, publisher, snapshots),
        OverlayCalls(overlay, max_body),
        OverlaySockets(overlay),
        publisher,
        refuse,
    )


def _reading(log: Log) -> ReadLog:
    async def read(selection: Selection, after: int, limit: int) -> list[Event]:
        return await asyncio.to_thread(log.read, selection.patterns, after, limit, _types(selection))

    return read


def _latest(log: Log) -> Callable[[Selection, int], Awaitable[list[Event]]]:
    async def latest(selection: Selection, count: int) -> list[Event]:
        return await asyncio.to_thread(log.latest, selection.patterns, count, _types(selection))

    return latest


def _types(selection: Selection) -> list[str] | None:
    return None if selection.types is None else sorted(selection.types)
