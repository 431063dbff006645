"""The pool of connections to the legacy: who gets one, when one is too old to trust, and who has to wait."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from proxy.framing import RequestHead
from proxy.upstream.address import Address, tls_context
from proxy.upstream.answer import Answer
from proxy.upstream.connection import Connection, Informational
from proxy.upstream.errors import Lost, NotSent
from shadow.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections, and how long to wait for what; all times in seconds."""

    connections: int = 1000
    waiting: int = 10_000
    """Requests that may wait for a connection; one more is refused at once."""
    queue_timeout: float = 10.0
    connect_timeout: float = 5.0
    response_timeout: float = 60.0
    """From the last byte of the request to the head of the answer."""
    write_timeout: float = 60.0
    """How long the legacy may take no byte of an upload."""
    body_timeout: float | None = None
    """How long a body may pause; None for ever, because a subscription may be silent."""
    idle: float = 60.0
    """How long an idle connection is kept when the legacy does not say."""
    idle_unsaid: float = 3.0
    """A mutation takes no connection idle for longer when the legacy does not say how long it keeps one (Node: 5 s)."""
    idle_margin: float = 1.0
    """A mutation stays this far from the limit that the legacy says: its clock starts at the other end of the wire."""


def may_carry(idle: float, said: float | None, limits: Limits, *, safe: bool) -> bool:
    """Tell whether a connection idle for `idle` seconds may carry a request; `said` is how long the legacy keeps one.

    A safe request can be sent again when the legacy closes just then; a mutation cannot, so it keeps a distance.
    """
    if safe:
        return idle < (limits.idle if said is None else min(said, limits.idle))
    if said is None:
        return idle < limits.idle_unsaid
    return idle < said - min(limits.idle_margin, said / 2)


class Upstream:
    """Connections to one legacy.

    `await request(...)` returns the answer as soon as its head is here. A mutation is written at most once, on
    a connection that shows no sign of its end; a safe request (GET, HEAD, OPTIONS) that dies with a connection
    which was idle before is sent once more on a new one.
    """

    def __init__(self, url: str, *, limits: Limits | None = None, ca_file: Path | None = None) -> None:
        """Raises `BadUrl` when `url` names no place to connect to, OSError when `ca_file` cannot be read."""
        self.address = Address.parse(url)
        self.limits = limits or Limits()
        self.tasks = Tasks()
        self.tls: ssl.SSLContext | None = tls_context(ca_file) if self.address.tls else None
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._connecting = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        times = (self.limits.response_timeout, self.limits.write_timeout, self.limits.body_timeout or 1.0)
        self._sweep_every = max(0.005, min(0.5, *(time / 4 for time in times)))

    @property
    def open_connections(self) -> int:
        """How many connections there are, idle ones included."""
        return len(self._connections)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiters)

    async def request(
        self, head: RequestHead, body: bytes | AsyncIterator[bytes] = b"", *, informational: Informational | None = None
    ) -> Answer:
        """Send one request and return its answer; raises `NotSent` or `Lost`.

        With bytes, `head.content_length` (if any) must be their length. Cancelling closes the connection.
        """
        whole = isinstance(body, bytes)
        retry = head.safe and whole and not body
        while True:
            connection = self.idle(safe=head.safe) or await self._wait_or_connect()
            reused = connection.used > 0
            if whole:
                expected = connection.send(head, body, informational)  # type: ignore[arg-type] # bytes, by `whole`
            else:
                expected = connection.stream(head, body, informational)  # type: ignore[arg-type] # not bytes
            try:
                return await expected
            except asyncio.CancelledError:
                connection.abort(Lost("given_up", "the request was given up"))
                raise
            except Lost as error:
                if not (retry and reused and connection.died_unheard(error)):
                    raise
                retry = False

    async def close(self) -> None:
        """Close everything: idle connections at once, exchanges with `Lost`, waiters with `NotSent`."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(NotSent("closed", "the proxy is shutting down"))
        for connection in list(self._connections):
            connection.abort(Lost("given_up", "the proxy is shutting down"))
        await self.tasks.cancel()
        await asyncio.sleep(0)

    # --- lending -----------------------------------------------------------------------------------------------

    def idle(self, *, safe: bool) -> Connection | None:
        """Return the idle connection used last that may carry a (`safe`) request, to be written to at once, or None.

        Those that have grown old are closed.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.closed:
                continue
            idle = connection.idle_seconds()
            if may_carry(idle, connection.idle_limit, self.limits, safe=safe) and (safe or connection.is_quiet()):
                return connection
            connection.abort(Lost("given_up", "idle for too long"))
        return None

    async def _wait_or_connect(self) -> Connection:
        if self._closed:
            raise NotSent("closed", "the proxy is shutting down")
        if len(self._connections) + self._connecting < self.limits.connections:
            return await self._connect()
        if len(self._waiters) >= self.limits.waiting:
            raise NotSent("queue_full", "too many requests are waiting for the legacy")
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(self.limits.queue_timeout):
                connection = await self._given(waiter)
        except TimeoutError:
            raise NotSent("queue_timeout", "the legacy had no free connection in time") from None
        if connection is None:
            return await self._connect(reserved=True)
        if connection.is_quiet():
            return connection
        connection.abort(Lost("given_up", "closed by the legacy"))
        return await self._connect()

    async def _given(self, waiter: asyncio.Future[Connection | None]) -> Connection | None:
        """Wait for a connection, or for the place to open one (None); what a cancelled wait got goes to the next."""
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                raise
            if waiter.done() and waiter.exception() is None:
                self._pass_on(waiter.result())
            raise

    async def _connect(self, *, reserved: bool = False) -> Connection:
        """Open a connection; `reserved` says that its place is already counted."""
        loop = asyncio.get_running_loop()
        address = self.address
        if not reserved:
            self._connecting += 1
        try:
            async with asyncio.timeout(self.limits.connect_timeout):
                if address.path is not None:
                    _, connection = await loop.create_unix_connection(lambda: Connection(self, loop), address.path)
                else:
                    _, connection = await loop.create_connection(
                        lambda: Connection(self, loop),
                        address.host,
                        address.port,
                        ssl=self.tls,
                        server_hostname=address.host if self.tls else None,
                    )
        except TimeoutError:
            raise self._no_connection("connect_timeout", f"the legacy at {address} did not accept in time") from None
        except ssl.SSLError as error:
            raise self._no_connection("tls_failed", f"no TLS with the legacy at {address}: {error}") from error
        except ConnectionRefusedError as error:
            raise self._no_connection("connect_refused", f"nothing listens at {address}") from error
        except OSError as error:
            raise self._no_connection("connect_failed", f"no connection to {address}: {error}") from error
        except BaseException:
            self._connecting -= 1
            self._grant_place()
            raise
        self._connecting -= 1
        self._connections.add(connection)
        self._watch()
        return connection

    def _no_connection(self, code: str, message: str) -> NotSent:
        self._connecting -= 1
        self._grant_place()
        return NotSent(code, message)

    # --- handing back ------------------------------------------------------------------------------------------

    def release(self, connection: Connection) -> None:
        """Take a connection back that can be used again."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed:
            connection.abort(Lost("given_up", "the proxy is shutting down"))
        else:
            self._idle.append(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection that is gone; whoever waits longest may open another."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._grant_place()

    def _grant_place(self) -> None:
        while self._waiters and len(self._connections) + self._connecting < self.limits.connections:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._connecting += 1
                waiter.set_result(None)
                return

    def _pass_on(self, connection: Connection | None) -> None:
        """Give to the next one what a cancelled waiter was given."""
        if connection is None:
            self._connecting -= 1
            self._grant_place()
        elif not connection.closed:
            self.release(connection)

    # --- time --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._sweep is None and not self._closed:
            self._sweep = asyncio.get_running_loop().call_later(self._sweep_every, self._look_round)

    def _look_round(self) -> None:
        """End the exchanges whose time is up and close what has been idle for too long.

        One look at all connections now and then costs less than a timer for every request.
        """
        self._sweep = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            if connection.deadline <= now:
                connection.abort(Lost(connection.deadline_code, _TIMEOUTS[connection.deadline_code]))
        for connection in self._idle[:]:
            if not may_carry(now - connection.idle_since, connection.idle_limit, self.limits, safe=True):
                self._idle.remove(connection)
                connection.abort(Lost("given_up", "idle for too long"))
        if self._connections:
            self._watch()


_TIMEOUTS = {
    "response_timeout": "the legacy did not answer in time",
    "write_timeout": "the legacy stopped taking the request's body",
    "body_timeout": "the legacy's answer paused for too long",
}
