"""Comparing all the time: what changed since the last time first, then some of everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import structlog

from changeover.errors import UserError
from changeover.settings import Settings
from changeover.wire import wire_of
from proxy.metrics import Metrics
from reconcile.record import FINISHED, Proof, draft, kept, proofs, worth_keeping
from reconcile.report import Report
from shadow.contract import Contract
from shadow.errors import Mendable
from shadow.events import Event
from shadow.ids import new_id
from shadow.json import Json
from shadow.log import Log
from shadow.tasks import Tasks

logger = structlog.get_logger(__name__)


class Proofs:
    """The newest exact check of each phase, whoever made it: its run is an event in the log."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self._found: dict[str, Proof] = {}
        self._metrics = metrics
        self._take(kept(log, 50))
        log.on_commit(self._committed)

    def of(self, phase: str, now: int) -> dict[str, Json]:
        """Return what `changeover status` shows of a phase; `now` in milliseconds."""
        proof = self._found.get(phase)
        if proof is None:
            return {"drift": None, "coverage": None, "checked": None}
        age = max(0, now - proof.finished) // 1000
        return {"drift": proof.differing, "coverage": f"{proof.coverage:.1%}", "checked": f"{age} s ago"}

    def _committed(self, events: Sequence[Event]) -> None:
        self._take([event.draft.data for event in events if event.draft.type == FINISHED])

    def _take(self, runs: Sequence[dict[str, Json]]) -> None:
        for phase, proof in proofs(runs).items():
            self._found[phase] = proof
            self._metrics.reconciled(phase, differing=proof.differing, coverage=proof.coverage, finished=proof.finished)


@asynccontextmanager
async def watching(settings: Settings, contract: Contract, log: Log, clock: Callable[[], int]) -> AsyncIterator[None]:
    """Compare every so often for the length of a block, as the settings say; raises UserError for an unknown phase."""
    tasks = Tasks()
    for phase, every in settings.reconcile_every:
        if phase is not None and phase not in contract.phases:
            known = ", ".join(contract.phases)
            raise UserError(f"--reconcile-every: the contract has no phase {phase!r}; it has {known}", code=2)
        tasks.spawn(_watch(settings, contract, log, phase, every, clock), name=f"reconcile {phase or 'everything'}")
    try:
        yield
    finally:
        await tasks.cancel()


async def _watch(
    settings: Settings, contract: Contract, log: Log, phase: str | None, every: float, clock: Callable[[], int]
) -> None:
    since, last = log.head.position, None
    while True:
        await asyncio.sleep(every)
        head = log.head.position
        try:
            report = await _compare(settings, contract, phase, since, clock)
        except Mendable as error:
            # The legacy may be away for a while; it is compared when it is back.
            logger.warning("reconcile_failed", error=type(error).__name__, meaning=str(error))
            continue
        since = head
        logger.info("reconciled", verdict=report.verdict.value, exact=report.exact, differing=report.differing)
        if worth_keeping(report, last):
            last = report
            await log.append([draft(report, new_id(report.finished))])


async def _compare(
    settings: Settings, contract: Contract, phase: str | None, since: int, clock: Callable[[], int]
) -> Report:
    from changeover.options import bearer, keyring
    from reconcile.pace import Limits
    from reconcile.run import Options, reconcile

    now = clock()
    options = Options(
        phases=() if phase is None else (phase,),
        changed_since=since,
        sample=settings.reconcile_sample,
        seed=now,
        limits=Limits(rate=settings.reconcile_rate, concurrency=2),
        wire=wire_of(contract),
        headers=bearer(settings.legacy_token),
        keyring=keyring(),
    )
    return await reconcile(contract, settings.database, settings.legacy, options, clock=clock)
