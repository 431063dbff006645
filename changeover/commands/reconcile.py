"""`changeover reconcile`: does the legacy hold what the log says?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover import options
from changeover.settings import ADMIN, DATABASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconcile.compare import Kind
    from reconcile.passes import Progress
    from reconcile.report import Point, Report
    from shadow.events import EntityKey
    from shadow.json import Json

app = typer.Typer(invoke_without_command=True)


@app.callback()
def reconcile(
    context: typer.Context,
    legacy: options.MaybeLegacy = None,
    contract: options.MaybeContract = None,
    database: options.Database = DATABASE,
    phase: Annotated[list[str] | None, typer.Option(help="Only this phase; may be repeated.")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="Only this kind of entity; may be repeated.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Only this key, as ENTITY/KEY; may be repeated.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Compare so many keys of each kind, at random.")] = None,
    seed: Annotated[int, typer.Option(help="Which random keys.")] = 0,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="A class of findings that is drift; may be repeated. Without it: all confirmed differences."),
    ] = None,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=1, help="Below this share of exact comparisons the run is inconclusive.")
    ] = 1.0,
    volatile: Annotated[
        list[str] | None,
        typer.Option(help="A field that the legacy itself reports differently from read to read, as ENTITY.FIELD."),
    ] = None,
    calibrate: Annotated[
        int, typer.Option(min=0, help="Read so many entities of each kind twice, to learn which fields are volatile.")
    ] = 0,
    legacy_dump: Annotated[
        Path | None,
        typer.Option(help="Compare this file of `reconcile dump` instead of a legacy.", show_default=False),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file to note progress in; a run that was stopped goes on from it.", show_default=False),
    ] = None,
    self_test: Annotated[
        bool, typer.Option(help="Plant known faults into a copy and see whether they are found.")
    ] = True,
    keep: Annotated[bool, typer.Option(help="Keep the run's figures in the log.")] = True,
    repair: Annotated[bool, typer.Option("--repair", help="Plan how to mend what differs, and show the plan.")] = False,
    authoritative: Annotated[str, typer.Option(help="Which side is right: legacy or log.")] = "legacy",
    yes: Annotated[bool, typer.Option("--yes", help="Carry the plan of --repair out.")] = False,
    actor: Annotated[str | None, typer.Option(envvar="USER", help="Who repairs; kept in the log for good.")] = None,
    rate: options.Rate = None,
    concurrency: options.Concurrency = 4,
    token: options.LegacyToken = None,
    admin: options.Admin = ADMIN,
    admin_token: options.AdminToken = None,
    format: Annotated[  # noqa: A002  the option's name
        str, typer.Option(help="text · json · junit · sarif · markdown · html")
    ] = "text",
    output: Annotated[Path | None, typer.Option(help="Write the report to a file.", show_default=False)] = None,
    report_to: Annotated[
        list[str] | None,
        typer.Option("--report", help="Write the same run in another format too, as FORMAT=FILE; may be repeated."),
    ] = None,
) -> None:
    """Compare the legacy with the log, exactly, while writes go on; changes neither.

    Exit codes: 0 everything was compared and is equal · 1 drift · 2 inconclusive · 3 an error.
    """
    if context.invoked_subcommand is not None:
        return

    import asyncio

    from changeover.errors import UserError
    from changeover.repairing import Where
    from changeover.repairing import repair as mend
    from changeover.wire import wire_of
    from reconcile.dump import read
    from reconcile.pace import Limits
    from reconcile.report import FORMATS
    from reconcile.run import Options
    from reconcile.run import reconcile as run
    from shadow.contract import load

    if format not in FORMATS:
        raise UserError(f"--format takes {', '.join(FORMATS)}, not {format!r}", code=3)
    others = [_target(text) for text in report_to or ()]
    if contract is None or (legacy is None and legacy_dump is None):
        raise UserError(
            "reconcile compares two things: give --contract, and --legacy with the API's address (or --legacy-dump)"
        )
    rules = load(contract)
    wanted = Options(
        phases=tuple(phase or ()),
        entities=tuple(entity or ()),
        keys=tuple(map(_entity_key, key or ())),
        sample=sample,
        seed=seed,
        limits=Limits(rate, concurrency),
        headers=options.bearer(token),
        wire=wire_of(rules),
        volatile=tuple(volatile or ()),
        calibrate=calibrate,
        checkpoint=checkpoint,
        dump=None if legacy_dump is None else read(legacy_dump),
        keyring=options.keyring(),
        self_test=self_test,
        fail_on=_kinds(fail_on),
        min_coverage=min_coverage,
    )
    address = legacy or f"file:{legacy_dump}"
    report = asyncio.run(run(rules, database, address, wanted, progress=_show))
    if keep:
        asyncio.run(_keep(report, database, admin, admin_token))
    for form, file in [(format, output), *others]:
        _tell(report, form, file, contract, database)
    if repair:
        if legacy is None:
            raise UserError("a dump cannot be repaired; give --legacy")
        where = Where(rules, database, legacy, admin, admin_token)
        mended = asyncio.run(mend(where, report, wanted, authoritative, actor, yes=yes))
        raise typer.Exit(0 if mended and yes else report.exit_code)
    raise typer.Exit(report.exit_code)


@app.command()
def history(
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the newest runs.")] = 20,
    database: options.Database = DATABASE,
    as_json: options.AsJson = False,
) -> None:
    """Show the runs that were kept, oldest first."""
    from changeover.database import reading
    from changeover.output import emit_json, table
    from reconcile.record import kept

    with reading(database) as log:
        runs = kept(log, lines)
    if as_json:
        for run in runs:
            emit_json(run)
    else:
        table(
            [_row(run) for run in runs],
            ["finished", "verdict", "position", "planned", "exact", "differ", "self-test", "findings"],
        )


@app.command()
def dump(
    legacy: options.Legacy,
    contract: options.Contract,
    output: Annotated[Path, typer.Option(help="The file to write.")],
    database: Annotated[
        str | None,
        typer.Option(envvar="CHANGEOVER_DATABASE", help="The log, to note its position.", show_default=False),
    ] = None,
    phase: Annotated[list[str] | None, typer.Option(help="Only this phase; may be repeated.")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="Only this kind of entity; may be repeated.")] = None,
    rate: options.Rate = None,
    concurrency: options.Concurrency = 4,
    token: options.LegacyToken = None,
) -> None:
    """Write the legacy's state to a file, to be compared elsewhere with `reconcile --legacy-dump`."""
    import asyncio
    from contextlib import AsyncExitStack

    from changeover.output import say
    from changeover.wire import wire_of
    from reconcile.dump import Dump, take
    from reconcile.evidence import Evidence
    from reconcile.legacy import open_legacy
    from reconcile.pace import Limits
    from reconcile.plans import plans
    from shadow.contract import load

    rules = load(contract)

    async def run() -> Dump:
        async with AsyncExitStack() as stack:
            evidence = stack.enter_context(Evidence.open(database)) if database else None
            source = await stack.enter_async_context(
                open_legacy(
                    legacy.rstrip("/") + rules.legacy.base_path,
                    wire=wire_of(rules),
                    limits=Limits(rate, concurrency),
                    headers=options.bearer(token),
                )
            )
            await source.reach()
            return await take(source, plans(rules, phases=phase or (), entities=entity or ()), evidence)

    taken = asyncio.run(run())
    output.write_text(taken.as_text(), "utf-8")
    counts = ", ".join(f"{len(entities)} {name}" for name, entities in taken.entities.items())
    say(f"{output}: {counts}")


def _row(run: dict[str, Json]) -> dict[str, Json]:
    from changeover.output import instant

    test = run["self_test"]
    return {
        "finished": instant(run["finished"]),
        "verdict": run["verdict"],
        "position": run["last_position"],
        "planned": f"{run['planned']}{' (sample)' if run['sampled'] else ''}",
        "exact": run["exact"],
        "differ": run["differing"],
        "self-test": None if test is None else f"{test['found']}/{test['planted']}",
        "findings": ", ".join(f"{count} {kind}" for kind, count in run["findings"].items()) or None,
    }


async def _keep(report: Report, database: str, admin: str, token: str | None) -> None:
    """Keep the run in the log; that it could not be kept is said, and changes nothing about the run."""
    from changeover.commands.backfill import appender_for
    from changeover.errors import UserError
    from changeover.output import warn
    from reconcile.record import draft
    from shadow.errors import Mendable
    from shadow.ids import new_id

    try:
        async with appender_for(database, admin, token) as appender:
            await appender.append([draft(report, new_id(report.finished))], {})
    except (Mendable, UserError) as error:
        warn(f"changeover: the run was not kept: {error}")


def _tell(report: Report, form: str, output: Path | None, contract: Path, database: str) -> None:
    import shutil
    import sys

    from changeover.database import reading
    from changeover.output import say
    from reconcile.record import kept, trend
    from reconcile.report import render

    runs: Sequence[Point] = ()
    if form == "html":
        with reading(database) as log:
            runs = trend(kept(log, 60))
    width = shutil.get_terminal_size((100, 24)).columns
    color = sys.stdout.isatty() and output is None
    text = render(report, form, width=width, color=color, contract=str(contract), trend=runs)
    if output is None:
        say(text.rstrip("\n"))
    else:
        output.write_text(text, "utf-8")


def _target(text: str) -> tuple[str, Path]:
    from changeover.errors import UserError
    from reconcile.report import FORMATS

    form, equals, file = text.partition("=")
    if form not in FORMATS or not equals or not file:
        raise UserError(f"--report takes FORMAT=FILE with one of {', '.join(FORMATS)}, not {text!r}", code=3)
    return form, Path(file)


def _kinds(names: list[str] | None) -> frozenset[Kind]:
    from changeover.errors import UserError
    from reconcile.compare import DRIFT, Kind

    try:
        return frozenset(Kind(name.replace("-", "_")) for name in names) if names else DRIFT
    except ValueError as error:
        known = ", ".join(Kind)
        raise UserError(f"--fail-on: {error}; the classes are {known}", code=3) from None


def _entity_key(text: str) -> EntityKey:
    from changeover.errors import UserError
    from shadow.events import EntityKey

    entity, slash, key = text.partition("/")
    if not (entity and slash and key):
        raise UserError(f"--key takes ENTITY/KEY, as in session/s1, not {text!r}", code=3)
    return EntityKey(entity, key)


def _show(progress: Progress) -> None:
    from changeover.output import progress_line

    progress_line(f"{progress.entity}: {progress.checked} of {progress.planned} compared, {progress.differing} differ")
