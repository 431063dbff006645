"""`changeover backfill`: take into the log what the legacy had before the proxy came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from changeover import options
from changeover.settings import ADMIN, DATABASE

if TYPE_CHECKING:
    from reconcile.append import Appender
    from reconcile.backfill import Imported
    from reconcile.legacy import Legacy
    from shadow.contract import Contract


def backfill(
    legacy: options.Legacy,
    contract: options.Contract,
    phase: Annotated[list[str] | None, typer.Argument(help="Only these phases; all of them without any.")] = None,
    database: options.Database = DATABASE,
    entity: Annotated[list[str] | None, typer.Option(help="Only this kind of entity; may be repeated.")] = None,
    rate: options.Rate = None,
    concurrency: options.Concurrency = 4,
    token: options.LegacyToken = None,
    admin: options.Admin = ADMIN,
    admin_token: options.AdminToken = None,
    as_json: options.AsJson = False,
) -> None:
    """Import what the legacy has and the log does not know, while mutations go on.

    Never overwrites a newer fact; may be stopped at any moment and run again: what is there is left alone. With a
    proxy running the events go through its admin port, otherwise straight into the log. Exit codes: 0 everything
    that the legacy lists is in the log · 2 something could not be imported · 3 an error.
    """
    import asyncio

    from changeover.output import emit_json, table
    from changeover.wire import wire_of
    from reconcile.legacy import open_legacy
    from reconcile.pace import Limits
    from shadow.contract import load

    rules = load(contract)

    async def run() -> list[Imported]:
        async with (
            open_legacy(
                legacy.rstrip("/") + rules.legacy.base_path,
                wire=wire_of(rules),
                limits=Limits(rate, concurrency),
                headers=options.bearer(token),
            ) as source,
            appender_for(database, admin, admin_token) as appender,
        ):
            return await _backfill(rules, source, appender, database, phase or [], entity or [])

    done = asyncio.run(run())
    rows = [
        {
            "entity": one.entity,
            "listed": one.listed,
            "imported": one.imported,
            "present": one.present,
            "differing": one.differing,
            "failed": one.failed,
            "complete": one.complete,
        }
        for one in done
    ]
    if as_json:
        emit_json(rows)
    else:
        table(rows, ["entity", "listed", "imported", "present", "differing", "failed", "complete"])
    raise typer.Exit(0 if all(one.complete for one in done) else 2)


async def _backfill(
    contract: Contract, source: Legacy, appender: Appender, database: str, phases: list[str], entities: list[str]
) -> list[Imported]:
    from reconcile.backfill import Backfill
    from reconcile.evidence import Evidence
    from reconcile.plans import plans
    from reconcile.run import now
    from shadow.ids import new_id
    from shadow.privacy import Privacy

    started = time.monotonic()

    def show(tally: Imported) -> None:
        from changeover.output import progress_line

        seconds = time.monotonic() - started
        pace = f", {tally.done / seconds:.0f}/s" if seconds > 1 else ""
        left = f", about {(tally.listed - tally.done) * seconds / tally.done:.0f} s left" if tally.done else ""
        progress_line(f"{tally.entity}: {tally.done} of {tally.listed} so far{pace}{left if seconds > 1 else ''}")

    with Evidence.open(database) as evidence:
        seal = Privacy(contract, keys).seal_draft if (keys := options.keyring()) else None
        work = Backfill(source, evidence, appender, new_id=lambda: new_id(now()), clock=now, seal=seal, progress=show)
        wanted = [plan for plan in plans(contract, phases=phases, entities=entities) if plan.kind.readable]
        return [await work.run(plan) for plan in wanted]


@asynccontextmanager
async def appender_for(database: str, admin: str, token: str | None) -> AsyncIterator[Appender]:
    """Append through the proxy that has this log open, or directly when nobody has."""
    import httpx

    from changeover.errors import UserError
    from reconcile.append import DirectAppender, ProxyAppender
    from shadow.errors import DatabaseBusy
    from shadow.log import Log

    async with AsyncExitStack() as stack:
        try:
            log = Log.open(database)
        except DatabaseBusy as busy:
            client = await stack.enter_async_context(
                httpx.AsyncClient(headers=options.bearer(token), timeout=60, trust_env=False)
            )
            proxy = ProxyAppender(client, admin)
            if await proxy.epoch() != _epoch(database):
                raise UserError(
                    f"{busy}; the proxy at {admin} has another log: name the right one with --admin"
                ) from None
            yield proxy
        else:
            stack.push_async_callback(log.close)
            yield DirectAppender(log)


def _epoch(database: str) -> str:
    from changeover.database import reading

    with reading(database) as reader:
        return reader.head.epoch
