"""`changeover reconcile`: is the state that the events add up to equal to the state that the legacy reports?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover import options
from changeover.settings import DATABASE

if TYPE_CHECKING:
    from reconcile.compare import Kind
    from reconcile.passes import Progress
    from shadow.events import EntityKey


def reconcile(
    legacy: options.Legacy,
    contract: options.Contract,
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
    self_test: Annotated[
        bool, typer.Option(help="Plant known faults into a copy and see whether they are found.")
    ] = True,
    rate: options.Rate = None,
    concurrency: options.Concurrency = 4,
    token: options.LegacyToken = None,
    format: Annotated[str, typer.Option(help="text · json · junit · sarif · markdown · html")] = "text",  # noqa: A002  the option's name
    output: Annotated[Path | None, typer.Option(help="Write the report to a file.", show_default=False)] = None,
) -> None:
    """Compare the legacy with the log, exactly, while writes go on; changes neither.

    Exit codes: 0 everything was compared and is equal · 1 drift · 2 inconclusive · 3 an error.
    """
    import asyncio
    import shutil
    import sys

    from changeover.errors import UserError
    from changeover.output import say
    from reconcile.pace import Limits
    from reconcile.report import FORMATS, render
    from reconcile.run import Options
    from reconcile.run import reconcile as run
    from shadow.contract import load

    if format not in FORMATS:
        raise UserError(f"--format takes {', '.join(FORMATS)}, not {format!r}", code=3)
    wanted = Options(
        phases=tuple(phase or ()),
        entities=tuple(entity or ()),
        keys=tuple(map(_entity_key, key or ())),
        sample=sample,
        seed=seed,
        limits=Limits(rate, concurrency),
        headers=options.bearer(token),
        keyring=options.keyring(),
        self_test=self_test,
        fail_on=_kinds(fail_on),
        min_coverage=min_coverage,
    )
    rules = load(contract)
    report = asyncio.run(run(rules, database, legacy, wanted, progress=_show))
    width = shutil.get_terminal_size((100, 24)).columns
    color = sys.stdout.isatty() and output is None
    text = render(report, format, width=width, color=color, contract=str(contract))
    if output is None:
        say(text.rstrip("\n"))
    else:
        output.write_text(text)
    raise typer.Exit(report.exit_code)


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
