"""`changeover reconcile --repair`: shows the plan, carries it out only when told to, and looks again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from changeover.errors import UserError
from changeover.output import say
from reconcile.compare import Kind
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy, open_legacy
from reconcile.passes import Method, Passes, Plan
from reconcile.plans import plans
from reconcile.repair import Outcome, Repair, Step, plan_repair, remaining
from reconcile.report import Report
from reconcile.run import Options, iso_day, now
from shadow.contract import Contract
from shadow.ids import new_id
from shadow.privacy import Privacy
from shadow.stages import DUTIES, Origin, Stage, stages_in

MENDABLE = frozenset(
    {Kind.MISSING_IN_LOG, Kind.EXTRA_IN_LOG, Kind.VALUE_DIFFERS, Kind.BYPASS_WRITE, Kind.ORDER_AMBIGUOUS}
)


@dataclass(frozen=True, slots=True)
class Where:
    """The two sides of a repair, and how to reach them."""

    contract: Contract
    database: str
    legacy: str
    admin: str
    admin_token: str | None


async def repair(
    where: Where, report: Report, wanted: Options, authoritative: str, actor: str | None, *, yes: bool
) -> bool:
    """Repair what a run found; returns whether nothing differs any more.

    Without `yes` the plan is only printed. Refuses a direction that contradicts a phase's stage.
    """
    try:
        origin = Origin(authoritative)
    except ValueError:
        raise UserError(f"--authoritative takes legacy or log, not {authoritative!r}", code=2) from None
    found = [finding for finding in report.findings if finding.kind in MENDABLE and finding.key]
    if not found:
        say("nothing to repair")
        return True
    with Evidence.open(where.database) as evidence:
        _agreed(where, origin, {finding.entity for finding in found})
        contract = where.contract
        async with open_legacy(
            where.legacy.rstrip("/") + contract.legacy.base_path,
            wire=wanted.wire,
            limits=wanted.limits,
            headers=wanted.headers,
        ) as legacy:
            passes = Passes(legacy, evidence, Method(iso_day(now()), attempts=wanted.attempts))
            steps: list[tuple[Plan, list[Step]]] = []
            for plan in plans(contract, volatile=wanted.volatile, keyring=wanted.keyring):
                keys = [finding.key for finding in found if finding.entity == plan.kind.name]
                if keys:
                    steps.append((plan, await plan_repair(contract, evidence, passes, plan, keys, origin, now())))
            for _, planned in steps:
                for step in planned:
                    say(str(step))
            if not yes:
                say("nothing was changed; add --yes to carry this out")
                return False
            return await _carry_out(where, report, wanted, origin, actor, legacy, passes, steps)


async def _carry_out(
    where: Where,
    report: Report,
    wanted: Options,
    origin: Origin,
    actor: str | None,
    legacy: Legacy,
    passes: Passes,
    steps: Sequence[tuple[Plan, list[Step]]],
) -> bool:
    from changeover.commands.backfill import appender_for

    outcome = Outcome()
    async with appender_for(where.database, where.admin, where.admin_token) as appender:
        work = Repair(
            legacy,
            appender,
            new_id=lambda: new_id(now()),
            clock=now,
            run=report.id,
            seal=Privacy(where.contract, wanted.keyring).seal_draft if wanted.keyring else lambda draft: draft,
            actor=actor,
        )
        for plan, planned in steps:
            await work.carry_out(planned, outcome)
            outcome.remaining += await remaining(passes, plan, planned)
        await work.record(origin, outcome)
    say(
        f"{outcome.done} repaired, {outcome.moved} moved meanwhile, {outcome.refused} not repaired; "
        f"looked again: {outcome.remaining} still differ"
    )
    return outcome.remaining == 0


def _agreed(where: Where, origin: Origin, entities: set[str]) -> None:
    """Refuse to let the side win that does not decide."""
    from changeover.database import reading

    with reading(where.database) as log:
        stages = {standing.phase: standing.stage for standing in stages_in(log)}
    for entity in sorted(entities):
        phase = where.contract.entities[entity].phase
        stage = stages.get(phase, Stage.OFF)
        decides = DUTIES[stage].authority
        if decides is not origin:
            raise UserError(
                f"in phase {phase}, which stands at {stage.value}, the {decides.value} decides: "
                f"repair it with --authoritative {decides.value}, or narrow the run with --phase"
            )
