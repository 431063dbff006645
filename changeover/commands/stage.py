"""`changeover stage`: where each phase stands, and moving it."""

from __future__ import annotations

from typing import Annotated

import typer

from changeover import options
from changeover.settings import ADMIN, DATABASE
from shadow.json import Json

app = typer.Typer(help="Where each phase stands, and moving it.", no_args_is_help=True)


@app.command("status")
def status(
    database: options.Database = DATABASE,
    as_json: options.AsJson = False,
) -> None:
    """Show the stage of every phase the log knows."""
    from changeover.database import reading
    from changeover.output import emit_json, instant, table
    from shadow.stages import stages_in

    with reading(database) as log:
        rows = [
            {
                "phase": standing.phase,
                "stage": standing.stage.value,
                "epoch": standing.epoch,
                "since": instant(standing.since) if standing.since else None,
                "reason": standing.reason,
            }
            for standing in stages_in(log)
        ]
    if as_json:
        emit_json(rows)
    else:
        table(rows, ["phase", "stage", "epoch", "since", "reason"])


@app.command("set")
def set_stage(
    phase: str,
    stage: Annotated[str, typer.Argument(help="off · dualwrite")],
    reason: Annotated[str, typer.Option(help="Why; kept in the log for good.")],
    actor: Annotated[str | None, typer.Option(envvar="USER", help="Who decides.")] = None,
    admin: options.Admin = ADMIN,
    admin_token: options.AdminToken = None,
    as_json: options.AsJson = False,
) -> None:
    """Move a phase to a stage, atomically, while the proxy runs; the change is an event on app:cutover."""
    from changeover.admin_client import AdminClient, ProxyNotRunning
    from changeover.errors import UserError
    from changeover.output import emit_json, say

    try:
        answer: Json = AdminClient(admin, admin_token).post(
            f"/stages/{phase}", {"stage": stage, "reason": reason, "actor": actor}
        )
    except ProxyNotRunning as address:
        raise UserError(
            f"no proxy answers at {address}; a stage is changed in the running proxy, so that what is in flight is "
            "drained: start `changeover serve`, or name it with --admin"
        ) from None
    if as_json:
        emit_json(answer)
    else:
        say(f"{phase}: {answer['from']} → {answer['stage']} (epoch {answer['epoch']}, {answer['cursor']})")
