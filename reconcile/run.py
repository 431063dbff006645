"""One run of the reconciler, from the contract and two addresses to a report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from reconcile.answers import Wire
from reconcile.checkpoint import Checkpoint
from reconcile.compare import DRIFT, Finding, Kind
from reconcile.dump import Dump, DumpedLegacy, FrozenLog
from reconcile.errors import ReconcileError
from reconcile.evidence import Evidence
from reconcile.findings import findings_of, worst_first
from reconcile.legacy import Legacy, open_legacy
from reconcile.pace import Limits
from reconcile.passes import Method, Passes, Plan, Progress, Shows, Source, Tally
from reconcile.plans import plans
from reconcile.report import Report, Scope
from reconcile.self_test import Recall, probe
from shadow.contract import Contract
from shadow.events import EntityKey
from shadow.ids import new_id
from shadow.secrets import Keyring
from shadow.stages import Stage

RECENT: Final = 10_000
"""How many of the recently changed entities of a kind one run compares."""
UNREADABLE: Final = "the contract gives neither `list` nor `get` for it: nothing was compared"


@dataclass(frozen=True, slots=True)
class Options:
    """What to compare and how. Nothing named means everything the contract has."""

    phases: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    keys: tuple[EntityKey, ...] = ()
    """Compare these only."""
    sample: int | None = None
    """Compare so many keys of each kind, chosen at random."""
    changed_since: int | None = None
    """Compare what had an event after this position first, then the sample."""
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    attempts: int = 6
    """How often a key is looked at before it stays unverified."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with every query, as in {"authorization": "Bearer …"}."""
    timeout: float = 30.0
    """Seconds to wait for one answer of the legacy."""
    wire: Wire | None = None
    """How the legacy writes what JSON cannot hold; needed when the contract names a transformer."""
    volatile: tuple[str, ...] = ()
    """Paths that the legacy itself reports differently from read to read, as in `session.seenAt`."""
    calibrate: int = 0
    """Read so many entities of each kind twice first, and set aside the fields in which the legacy disagrees with
    itself."""
    dump: Dump | None = None
    """Compare this instead of a legacy that can be asked."""
    checkpoint: Path | None = None
    """Where to note how far the run came; a run that finds the file goes on from there."""
    keyring: Keyring | None = None
    """Tells whether a sealed secret is the one that the legacy shows; without it some secrets stay uncompared."""
    self_test: bool = True
    """Plant known faults into a copy and see whether the detector finds them."""
    fail_on: frozenset[Kind] = DRIFT
    min_coverage: float = 1.0


def now() -> int:
    """Return the time, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def iso_day(moment: int) -> str:
    """Return the ISO date of a time in milliseconds, in UTC."""
    return datetime.fromtimestamp(moment / 1000, UTC).date().isoformat()


async def reconcile(
    contract: Contract,
    log_url: str,
    legacy_url: str,
    options: Options | None = None,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    clock: Callable[[], int] = now,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Report:
    """Compare the legacy at `legacy_url` with the log at `log_url` and report; changes neither.

    The log may be written by a proxy meanwhile. Raises ReconcileError when the legacy cannot be read at all, and
    DatabaseRefused when the log cannot.
    """
    wanted = options or Options()
    if wanted.wire is None and contract.legacy.transformer != "none" and wanted.dump is None:
        raise ReconcileError(f"the legacy's transformer is {contract.legacy.transformer}: give `Options.wire` for it")
    address = legacy_url.rstrip("/") + contract.legacy.base_path
    with Evidence.open(log_url) as evidence:
        async with open_legacy(
            address,
            wire=wanted.wire,
            limits=wanted.limits,
            headers=wanted.headers,
            timeout=wanted.timeout,
            sleep=sleep,
        ) as legacy:
            if wanted.dump is None:
                await legacy.reach()
            return await compare(
                contract, evidence, legacy, wanted, address=legacy_url, progress=progress, clock=clock, sleep=sleep
            )


async def compare(
    contract: Contract,
    evidence: Evidence,
    legacy: Legacy,
    options: Options,
    *,
    address: str,
    progress: Callable[[Progress], None],
    clock: Callable[[], int],
    sleep: Callable[[float], Awaitable[None]],
) -> Report:
    """Run with a legacy and a log that are open already; see `reconcile`."""
    started = clock()
    today = iso_day(started)
    before = evidence.head
    named = tuple({key.entity for key in options.keys}) or options.entities
    method = Method(today, options.sample, options.seed, options.attempts, max(1, options.limits.concurrency) * 4)
    wanted = plans(contract, phases=options.phases, entities=named, volatile=options.volatile, keyring=options.keyring)
    shows: Shows = legacy if options.dump is None else DumpedLegacy(options.dump, wanted)
    source: Source = evidence if options.dump is None else await asyncio.to_thread(FrozenLog, evidence, options.dump)
    checkpoint = None
    if options.checkpoint is not None:
        identity = {"contract": contract.hash, "epoch": before.epoch, "legacy": _without_credentials(address)}
        checkpoint = Checkpoint(options.checkpoint, identity, time.monotonic)
    passes = Passes(shows, source, method, sleep=sleep, progress=progress, checkpoint=checkpoint)
    scopes: list[Scope] = []
    findings: list[Finding] = []
    recall = Recall()
    stages = await asyncio.to_thread(evidence.stages)
    for plan in wanted:
        learnt: frozenset[str] = frozenset()
        if options.calibrate and plan.kind.readable:
            learnt = await passes.sampling(options.calibrate).calibrate(plan)
            plan = replace(plan, rules=replace(plan.rules, volatile=(*plan.rules.volatile, *sorted(learnt))))
        try:
            tally = await _compare(passes, plan, options, evidence)
        finally:
            if checkpoint is not None:
                checkpoint.save(now=True)
        found = await asyncio.to_thread(findings_of, plan, tally, evidence, today)
        if options.self_test and plan.kind.readable:
            await probe(passes, source, evidence, plan, tally, options.seed, recall)
        scopes.append(_scope(plan, tally, learnt, stages.get(plan.phase)))
        findings += found
        if not plan.kind.readable and plan.kind.name in named:
            findings.append(Finding(Kind.UNVERIFIED, plan.kind.name, "", None, UNREADABLE))
    finished = clock()
    if checkpoint is not None:
        checkpoint.finish()
    return Report(
        id=new_id(started),
        started=started,
        finished=finished,
        legacy=_without_credentials(address),
        contract=contract.hash,
        epoch=before.epoch,
        first_position=before.position,
        last_position=evidence.head.position,
        scopes=tuple(scopes),
        findings=worst_first(findings),
        requests=legacy.requests,
        sampled=options.sample is not None or options.changed_since is not None,
        narrowed=bool(options.keys or options.entities),
        seed=options.seed,
        self_test=recall.result() if options.self_test else None,
        fail_on=options.fail_on,
        min_coverage=options.min_coverage,
    )


async def _compare(passes: Passes, plan: Plan, options: Options, evidence: Evidence) -> Tally:
    if not plan.kind.readable:
        return Tally()
    if options.keys:
        return await passes.compare_keys(plan, [key.key for key in options.keys if key.entity == plan.kind.name])
    if options.changed_since is not None:
        recent = await asyncio.to_thread(evidence.changed, plan.kind.name, options.changed_since, RECENT)
        others = set(await passes.sampled(plan)) - set(recent)
        return await passes.compare_keys(plan, [*recent, *sorted(others)])
    if options.sample is not None:
        return await passes.compare_sample(plan)
    return await passes.compare_all(plan)


def _scope(plan: Plan, tally: Tally, learnt: frozenset[str], stage: Stage | None) -> Scope:
    return Scope(
        entity=plan.kind.name,
        phase=plan.phase,
        planned=tally.planned,
        matched=tally.matched,
        differing=len(tally.differing),
        unverified=len(tally.unverified),
        in_one_look=tally.in_one_look,
        ignored=dict(tally.ignored),
        volatile=dict(tally.volatile),
        learnt=tuple(sorted(learnt)),
        note=_note(plan, tally, stage),
    )


def _note(plan: Plan, tally: Tally, stage: Stage | None) -> str | None:
    if stage is Stage.OFF:
        return f"phase {plan.phase} stands at off: what clients change is not in the log"
    if not plan.kind.readable:
        return UNREADABLE
    if tally.untold:
        return f"{tally.untold} sealed secret(s) not compared: the key is missing (CHANGEOVER_KEYS)"
    return None


def _without_credentials(url: str) -> str:
    """Return an address as it may be shown: without user and password."""
    return str(httpx.URL(url).copy_with(userinfo=b""))
