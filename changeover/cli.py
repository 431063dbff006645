"""The `changeover` command: parses, runs, and turns every expected error into one clear sentence.

Exit codes: 0 all is well · 1 a negative finding (drift, a broken chain, contract mistakes) · 2 usage, or inconclusive
(`reconcile`) · 3 an error · 130 interrupted.
"""

from __future__ import annotations

import sys

import typer

from changeover.commands import backfill, contract, demo, doubts, events, reconcile, serve, stage, state, status
from changeover.errors import Refusal, explain

app = typer.Typer(
    name="changeover",
    help="Give a tRPC API an event log: mirror its mutations, prove both sides equal, cut over by phases, reversibly.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("status")(status.status)
app.command("doubts")(doubts.doubts)
app.command("backfill")(backfill.backfill)
app.command("state")(state.state)
app.add_typer(contract.app, name="contract")
app.add_typer(events.app, name="events")
app.add_typer(stage.app, name="stage")
app.add_typer(reconcile.app, name="reconcile")


def main() -> None:
    """Run the command line; never shows a traceback for what a user can mend."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        refusal = explain(error)
        if refusal is None:
            raise
        fail(refusal)


def fail(refusal: Refusal) -> None:
    """Print what went wrong and leave with its exit code."""
    print(f"changeover: {refusal.message}", file=sys.stderr)  # noqa: T201  the command's own voice
    sys.exit(refusal.code)
