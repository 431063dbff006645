"""What a process was told at its start; read once, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from changeover.errors import UserError

if TYPE_CHECKING:
    from shadow.secrets import Keyring

DATABASE = "sqlite:///changeover.db"
ADMIN = "http://127.0.0.1:4001"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `changeover serve` can be told."""

    legacy: str
    contract: Path
    database: str = DATABASE
    host: str = "127.0.0.1"
    port: int = 4000
    admin_host: str = "127.0.0.1"
    admin_port: int = 4001
    admin_token: str | None = None
    subscriber_token: str | None = None
    """What subscribers show to see channels that the contract keeps behind a token."""
    keyring: Keyring | None = None
    """What seals the secrets that the contract names."""
    initial_stage: str = "off"
    max_body: int = 10 * 1024 * 1024
    """Bytes of one mutation's body that may be held in memory; larger ones are refused."""
    legacy_token: str | None = None
    """Sent as a bearer token with the proxy's own reads of the legacy."""
    spool: Path | None = None
    """Where phases that fail open write while the log cannot be written; beside the database unless told."""
    keep_answers: float = 24 * 3600
    """Seconds for which an answer is kept under its Idempotency-Key."""
    response_timeout: float = 60.0
    """Seconds that the legacy may take for the head of an answer; then the client gets 504."""
    actor_header: str = ""
    """The request header that names who acts; kept with each intent and event."""
    reconcile_every: tuple[tuple[str | None, float], ...] = ()
    """Phases (None: all of them), each with the seconds between two comparisons of what changed meanwhile."""
    reconcile_sample: int = 100
    """How many entities of each kind, besides those that changed, are compared each time."""
    reconcile_rate: float = 20.0
    """Requests a second that these comparisons may make."""
    drain: float = 15.0
    """Seconds that a stage change or a shutdown waits for what is in flight."""

    @property
    def spool_file(self) -> Path:
        """The file that takes the place of a log that cannot be written."""
        if self.spool is not None:
            return self.spool
        file = self.database.removeprefix("sqlite:///")
        return Path("changeover.spool" if file == self.database else f"{file}.spool")

    def checked(self) -> Settings:
        """Return the settings, or raise `UserError` for a combination that is not safe."""
        if not self.admin_token and not _is_loopback(self.admin_host):
            raise UserError(
                f"the admin port would listen on {self.admin_host} without a token: set CHANGEOVER_ADMIN_TOKEN, "
                "or leave --admin-host at 127.0.0.1",
                code=2,
            )
        return self


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
