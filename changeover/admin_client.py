"""How a command speaks to the running proxy."""

from __future__ import annotations

import httpx

from changeover.errors import UserError
from shadow.json import Json


class ProxyNotRunning(Exception):
    """Nobody listens at the admin address."""


class AdminClient:
    """The admin port of a running proxy; raises `UserError` with what the proxy said when it refuses."""

    def __init__(self, address: str, token: str | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._address = address.rstrip("/")
        self._client = httpx.Client(base_url=self._address, headers=headers, timeout=60, trust_env=False)

    def get(self, path: str) -> Json:
        """Return the JSON at `path`; raises `ProxyNotRunning` when nobody listens."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: Json) -> Json:
        """Send JSON to `path` and return the answer; raises `ProxyNotRunning` when nobody listens."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: Json) -> Json:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.ConnectError:
            raise ProxyNotRunning(self._address) from None
        except httpx.HTTPError as error:
            raise UserError(f"the proxy at {self._address} did not answer: {error}") from None
        try:
            said = answer.json()
        except ValueError:
            raise UserError(f"{self._address} answered {answer.status_code}, but not as an admin port does") from None
        if answer.is_error:
            raise UserError(said.get("error", f"the proxy refused with {answer.status_code}"))
        return said
