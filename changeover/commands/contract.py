"""`changeover contract`: checking the contract and what it covers."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from changeover import options
from changeover.settings import DATABASE

Strict = Annotated[bool, typer.Option("--strict", help="Let warnings fail the check, too.")]
Samples = Annotated[
    Path | None,
    typer.Option(
        "--samples",
        exists=True,
        dir_okay=False,
        help="Read calls from a file of JSON lines instead: {procedure, kind, input, output}.",
        show_default=False,
    ),
]

app = typer.Typer(help="Check the contract, and see what it covers.", no_args_is_help=True)


@app.command()
def check(file: Path, as_json: options.AsJson = False, strict: Strict = False) -> None:
    """Check a contract file as a whole; every mistake is named with its line. Exit code 1 if there is any."""
    from changeover.output import emit_json, say
    from shadow.contract import ContractError, load
    from shadow.contract.review import review

    try:
        contract = load(file)
    except ContractError as error:
        if as_json:
            emit_json({"valid": False, "problems": [asdict(problem) for problem in error.problems]})
        else:
            for problem in error.problems:
                say(str(problem))
            say(f"{len(error.problems)} mistake(s)")
        raise typer.Exit(1) from None
    warnings = review(contract, datetime.now(UTC).date())
    if as_json:
        facts = {"valid": True, "hash": contract.hash, "mutations": sorted(contract.mutations)}
        emit_json({**facts, "warnings": [asdict(warning) for warning in warnings]})
    else:
        for warning in warnings:
            say(f"warning: {warning}")
        say(
            f"{file}: valid — {len(contract.phases)} phase(s), {len(contract.entities)} entity kind(s), "
            f"{len(contract.mutations)} mutation(s); version {contract.hash[:12]}"
        )
    if warnings and strict:
        raise typer.Exit(1)


@app.command()
def coverage(
    contract: options.Contract, database: options.Database = DATABASE, as_json: options.AsJson = False
) -> None:
    """Compare the contract with the mutations that were seen: which are mapped, which are not, how often."""
    from changeover.database import reading
    from changeover.output import emit_json, say, table
    from shadow.contract import load
    from shadow.coverage import as_json as as_facts
    from shadow.coverage import coverage as measure
    from shadow.coverage import row

    rules = load(contract)
    with reading(database) as log:
        found = measure(rules, log.tallies())
    if as_json:
        emit_json(as_facts(found))
        return
    table(
        [row(each) for each in found.procedures],
        ["procedure", "phase", "mapped", "calls", "applied", "rejected", "in_doubt"],
    )
    say(f"coverage: {found.share:.1%} of {found.calls} mutation calls are mapped")


@app.command()
def draft(database: options.Database = DATABASE, samples: Samples = None) -> None:
    """Write a first contract from the calls in the journal, or in a file: names and shapes only, never values.

    The journal knows the mutations that passed, with their inputs; a file may tell queries and answers, too.
    """
    from changeover.output import say
    from changeover.sampling import from_file, from_journal
    from shadow.contract.drafting import draft as write

    say(write(from_journal(database) if samples is None else from_file(samples)).rstrip("\n"))
