"""How queries get to the legacy and answers back: over httpx's own connections, as its client would send them.

A client does much around each request that is the same for all of them: it puts together the address and the headers,
looks for cookies, thinks about redirects. Here that is done once. Together with the objects that it makes for each
answer that is more than a quarter of what a page costs.
"""

from __future__ import annotations

import importlib.util
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import httpcore
import httpx

if importlib.util.find_spec("sniffio") is None:
    # httpcore asks for this optional module several times in each request, and a module that is not there is looked
    # for on the disk each time: a quarter of a request's cost. This says for good that it is not there.
    sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

FAILURES: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpx.HTTPError,
)
"""What is raised when no answer came, or none that can be read."""


@dataclass(frozen=True, slots=True)
class Received:
    """What is looked at of an answer."""

    status: int
    body: bytes
    retry_after: str | None = None


class Road(Protocol):
    """A way to send a query."""

    async def get(self, procedure: str, query: str) -> Received | None:
        """Send a GET to a procedure with a query string, which is ASCII; None when there is no usable answer."""


class ClientRoad:
    """Lets a client send everything."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def get(self, procedure: str, query: str) -> Received | None:
        """See Road."""
        try:
            response = await self._client.get(_address(self._url, procedure, query))
        except httpx.HTTPError:
            return None
        return Received(response.status_code, response.content, response.headers.get("retry-after"))


class StraightRoad:
    """Sends what `client` would send for the same query, without it.

    It has connections of its own, no more than `limits` says. Cookies that the legacy sets are given to the client,
    and from then on that sends everything.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, limits: httpx.Limits, ssl_context: ssl.SSLContext
    ) -> None:
        self._client = client
        self._otherwise = ClientRoad(client, url)
        self._url = url
        self._model = _as_sent(client, url)
        self._headers = self._model.headers.raw
        self._targets: dict[str, bytes] = {}
        self._cookies = False
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def get(self, procedure: str, query: str) -> Received | None:
        """See Road."""
        if self._cookies:
            return await self._otherwise.get(procedure, query)
        url = self._model.url
        address = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=self._target(procedure, query)
        )
        try:
            answer = await self._pool.request("GET", address, headers=self._headers, extensions=self._model.extensions)
            return self._received(answer)
        except FAILURES:
            return None

    def _target(self, procedure: str, query: str) -> bytes:
        path = self._targets.get(procedure)
        if path is None:
            path = self._targets[procedure] = httpx.URL(_address(self._url, procedure, "")).raw_path
        return path + b"?" + query.encode("ascii") if query else path

    def _received(self, answer: httpcore.Response) -> Received:
        headers: Mapping[bytes, bytes] = {name.lower(): value for name, value in answer.headers}
        if b"set-cookie" in headers:
            self._cookies = True
            self._client.cookies.extract_cookies(
                httpx.Response(answer.status, headers=answer.headers, request=self._model)
            )
        body = answer.content
        if b"content-encoding" in headers:
            body = httpx.Response(answer.status, headers=answer.headers, content=body).content
        retry_after = headers.get(b"retry-after")
        return Received(answer.status, body, None if retry_after is None else retry_after.decode("latin-1"))


def trust(url: str) -> ssl.SSLContext:
    """Return what decides whom to believe at `url`: for plain HTTP, where nobody has to be believed, nobody.

    Reading all the authorities that the world trusts takes longer than the first hundred entities.
    """
    if httpx.URL(url).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.create_ssl_context(trust_env=False)


def _as_sent(client: httpx.AsyncClient, url: str) -> httpx.Request:
    """Return the request that the client would send to `url`."""
    request = client.build_request("GET", url)
    named = request.url
    if named.userinfo:
        request = next(httpx.BasicAuth(named.username, named.password).auth_flow(request))
    return request


def _address(url: str, procedure: str, query: str) -> str:
    address = f"{url}/{procedure}" if procedure else url
    return f"{address}?{query}" if query else address
