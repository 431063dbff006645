"""`changeover status`: where everything stands."""

from __future__ import annotations

from changeover import options
from changeover.settings import ADMIN


def status(
    admin: options.Admin = ADMIN, admin_token: options.AdminToken = None, as_json: options.AsJson = False
) -> None:
    """Show the running proxy: stages, what was mirrored and what was not, doubts, the log and the legacy."""
    from changeover.admin_client import AdminClient, ProxyNotRunning
    from changeover.errors import UserError
    from changeover.output import emit_json, say, table

    try:
        facts = AdminClient(admin, admin_token).get("/status")
    except ProxyNotRunning as address:
        raise UserError(f"no proxy answers at {address}; start `changeover serve`, or name it with --admin") from None
    if as_json:
        emit_json(facts)
        return
    legacy = facts["legacy"]
    say(f"legacy    {legacy['url']}  {'reachable' if legacy['reachable'] else 'NOT REACHABLE'}")
    spooled = facts["log"]["spooled"]
    waiting = f", {spooled} call(s) wait in the spool" if spooled else ""
    say(f"log       {facts['log']['cursor']}  ({facts['log']['state']}{waiting})")
    say(f"contract  {facts['contract']['hash'][:12]}  {facts['contract']['file']}")
    if (doubts := facts["doubts"])["count"]:
        oldest, aside = doubts["oldest_seconds"], doubts["quarantined"]
        say(f"doubts    {doubts['count']}, {aside} in quarantine, the oldest for {oldest:.0f} s: `changeover doubts`")
    say()
    table(facts["phases"], ["phase", "stage", "epoch", "in_flight", "doubts", "drift", "coverage", "checked"])
    if facts["mutations"]:
        say()
        table(facts["mutations"], ["procedure", "mapped", "applied", "rejected", "in_doubt", "not_applied", "observed"])
    for reason, count in facts["not_mirrored"].items():
        say(f"not mirrored: {count} × {reason}")
