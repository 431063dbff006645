"""Options that several commands share, each with its environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shadow.secrets import Keyring

Database = Annotated[
    str,
    typer.Option("--database", envvar="CHANGEOVER_DATABASE", help="Where the log is: sqlite:///FILE or postgresql://…"),
]
Contract = Annotated[
    Path, typer.Option("--contract", envvar="CHANGEOVER_CONTRACT", help="The contract file.", show_default=False)
]
Legacy = Annotated[
    str,
    typer.Option("--legacy", envvar="CHANGEOVER_LEGACY", help="The legacy's address, as in http://127.0.0.1:3000."),
]
MaybeContract = Annotated[
    Path | None, typer.Option("--contract", envvar="CHANGEOVER_CONTRACT", help="The contract file.", show_default=False)
]
MaybeLegacy = Annotated[
    str | None,
    typer.Option(
        "--legacy",
        envvar="CHANGEOVER_LEGACY",
        help="The legacy's address, as in http://127.0.0.1:3000.",
        show_default=False,
    ),
]
Admin = Annotated[str, typer.Option("--admin", envvar="CHANGEOVER_ADMIN", help="The running proxy's admin address.")]
AdminToken = Annotated[
    str | None,
    typer.Option("--admin-token", envvar="CHANGEOVER_ADMIN_TOKEN", help="The admin port's token.", show_default=False),
]
SubscriberToken = Annotated[
    str | None,
    typer.Option(
        "--subscriber-token",
        envvar="CHANGEOVER_SUBSCRIBER_TOKEN",
        help="What subscribers show to see the channels that the contract keeps behind a token.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Rate = Annotated[
    float | None, typer.Option("--rate", min=0.01, help="At most so many requests a second.", show_default=False)
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, max=64, help="At most so many requests at a time.")]
LegacyToken = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="CHANGEOVER_LEGACY_TOKEN", help="A bearer token for the legacy.", show_default=False
    ),
]


def schedule(text: str) -> tuple[str | None, float]:
    """Read a schedule such as 5m, or sessions=90s for one phase; raises UserError for anything else."""
    from changeover.errors import UserError

    phase, _, every = text.rpartition("=")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", every)
    if match is None or not float(match[1]):
        raise UserError(f"{text!r} is no schedule; write 5m for all phases, or sessions=90s for one", code=2)
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return phase or None, float(match[1]) * units[match[2]]


def bearer(token: str | None) -> dict[str, str]:
    """Return the header that shows a token, no header without one."""
    return {"authorization": f"Bearer {token}"} if token else {}


def keyring() -> Keyring | None:
    """Return the keys in CHANGEOVER_KEYS, None without any; raises UserError for keys that cannot be used."""
    from changeover.errors import UserError
    from shadow.secrets import Keyring, KeyringError

    text = os.environ.get("CHANGEOVER_KEYS")
    try:
        return Keyring.parse(text) if text else None
    except KeyringError as error:
        raise UserError(f"CHANGEOVER_KEYS: {error}") from None
