"""A running proxy as its admin port sees it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from changeover.clock import clock
from changeover.settings import Settings
from changeover.staging import Stages
from changeover.watching import Proofs
from proxy.failopen import DIRTY, FailOpen
from proxy.fence import Fence
from proxy.framing import RequestHead
from proxy.metrics import Metrics
from proxy.subscriptions.publish import Publisher, published_told, read_publication
from proxy.upstream import Upstream, UpstreamError
from shadow.contract import Contract
from shadow.events import Draft, EntityKey
from shadow.journal import QUARANTINED
from shadow.json import Json
from shadow.log import Log


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


async def reachable(upstream: Upstream) -> bool:
    """Tell whether the legacy answers at all."""
    head = RequestHead(b"HEAD", b"/", [(b"Host", b"legacy")])
    try:
        answer = await asyncio.wait_for(upstream.request(head, b""), 3)
    except (UpstreamError, TimeoutError):
        return False
    answer.close()
    return True
