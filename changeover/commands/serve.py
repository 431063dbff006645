"""`changeover serve`: the proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from changeover import options
from changeover.settings import DATABASE, Settings


def serve(
    legacy: options.Legacy,
    contract: options.Contract,
    database: options.Database = DATABASE,
    host: Annotated[str, typer.Option(help="Where clients reach the proxy.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 4000,
    admin_host: Annotated[str, typer.Option(help="Anything but loopback demands a token.")] = "127.0.0.1",
    admin_port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 4001,
    admin_token: options.AdminToken = None,
    subscriber_token: options.SubscriberToken = None,
    initial_stage: Annotated[
        str, typer.Option(help="The stage of a phase that the log has not seen: off or dualwrite.")
    ] = "off",
    legacy_token: Annotated[
        str | None,
        typer.Option(
            envvar="CHANGEOVER_LEGACY_TOKEN",
            show_default=False,
            help="A bearer token for the proxy's own reads of the legacy, by which it resolves doubts.",
        ),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Where phases that fail open write while the log cannot be written. [default: beside the database]",
        ),
    ] = None,
    keep_answers: Annotated[
        float, typer.Option(help="Seconds for which the answer to a request with an Idempotency-Key is kept.")
    ] = 24 * 3600,
    response_timeout: Annotated[
        float, typer.Option(help="Seconds that the legacy may take to begin an answer; then the client gets 504.")
    ] = 60,
    actor_header: Annotated[
        str, typer.Option(help="The request header that names who acts, set by whoever authenticates before the proxy.")
    ] = "",
    max_body: Annotated[int, typer.Option(min=1024, help="Bytes that a mutation's JSON body may have.")] = 10 * 2**20,
    reconcile_every: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with the legacy so often, what changed first: 5m, or sessions=1m for one phase; repeatable.",
            show_default=False,
        ),
    ] = None,
    reconcile_sample: Annotated[int, typer.Option(min=0, help="And so many others of each kind, at random.")] = 100,
    reconcile_rate: Annotated[float, typer.Option(min=0.1, help="With at most so many requests a second.")] = 20,
    drain: Annotated[float, typer.Option(help="Seconds to wait for what is in flight at a stage change or stop.")] = 15,
) -> None:
    """Stand in front of the legacy: pass everything through and mirror its mutations into the log.

    CHANGEOVER_KEYS holds the keys that seal what the contract calls secret, as NAME:BASE64 (32 bytes), the newest
    first; without them a contract that names secrets is refused.

    Prints one line of JSON with its addresses once it listens. SIGTERM and Ctrl-C drain what is in flight.
    """
    from changeover.serve import run

    run(
        Settings(
            legacy=legacy,
            contract=contract,
            database=database,
            host=host,
            port=port,
            admin_host=admin_host,
            admin_port=admin_port,
            admin_token=admin_token,
            subscriber_token=subscriber_token,
            keyring=options.keyring(),
            initial_stage=initial_stage,
            legacy_token=legacy_token,
            spool=spool,
            keep_answers=keep_answers,
            response_timeout=response_timeout,
            actor_header=actor_header,
            max_body=max_body,
            reconcile_every=tuple(map(options.schedule, reconcile_every or ())),
            reconcile_sample=reconcile_sample,
            reconcile_rate=reconcile_rate,
            drain=drain,
        ).checked()
    )
