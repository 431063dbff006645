"""Who appends to the log for the reconciler: this process, or the proxy that has the log open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import httpx

from reconcile.errors import ReconcileError
from shadow.drafts import as_json, expected_as_json
from shadow.errors import PositionConflict
from shadow.events import Cursor, Draft, EntityKey
from shadow.log import Log


class MovedError(Exception):
    """An entity got an event of its own meanwhile; nothing was appended."""


class Appender(Protocol):
    """Appends events, all or none."""

    async def append(self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int]) -> int:
        """Append and return the last position, when durable; raises MovedError if an entity is not where expected."""


class DirectAppender:
    """Appends to a log that this process has open."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def append(self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int]) -> int:
        """See Appender."""
        try:
            events = await self._log.append(drafts, expected=expected)
        except PositionConflict as conflict:
            raise MovedError(str(conflict)) from None
        return events[-1].position if events else self._log.head.position


class ProxyAppender:
    """Appends through the admin port of a running proxy."""

    def __init__(self, client: httpx.AsyncClient, address: str) -> None:
        self._client = client
        self._address = address.rstrip("/")

    async def epoch(self) -> str:
        """Return the epoch of the log that the proxy writes; raises ReconcileError."""
        try:
            status = (await self._client.get(f"{self._address}/status")).json()
            return Cursor.parse(status["log"]["cursor"]).epoch
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise self._silent() from None

    async def append(self, drafts: Sequence[Draft], expected: Mapping[EntityKey, int]) -> int:
        """See Appender; raises ReconcileError when the proxy refuses or does not answer."""
        body = {"events": [as_json(draft) for draft in drafts], "expected": expected_as_json(expected)}
        try:
            answer = await self._client.post(f"{self._address}/events", json=body)
            said = answer.json()
        except (httpx.HTTPError, ValueError):
            raise self._silent() from None
        if answer.status_code == 412:
            raise MovedError(said.get("error", "moved"))
        if answer.is_error:
            raise ReconcileError(f"the proxy at {self._address} refused: {said.get('error', answer.status_code)}")
        return int(said["position"])

    def _silent(self) -> ReconcileError:
        return ReconcileError(
            f"another process has the log open, and no proxy's admin port answers at {self._address}: "
            "name it with --admin (and --admin-token), or stop that process"
        )
