"""Serve an ASGI application on a port or a Unix socket: uvicorn with uvloop, and our own HTTP protocol in it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from proxy.http1 import HttpProtocol
from shadow.errors import Mendable
from shadow.tasks import Tasks

BIGGEST_MESSAGE = 100 * 1024 * 1024
"""The largest WebSocket message, in bytes; what Node's `ws` takes by default."""


class CannotListen(Mendable):
    """The address cannot be listened on; the message says why and what to do."""


def bind(host: str, port: int) -> socket.socket:
    """Bind a TCP socket (port 0: any free one) that is not listening yet; raises `CannotListen`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise CannotListen(f"the host {host!r} cannot be found: {error.strerror}") from None
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        # Two sockets may be bound to one port until one of them listens; so the clash shows here and not later.
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {error.strerror}; is another program using that port?"
        ) from None
    bound.setblocking(False)
    return bound


def bind_unix(path: Path) -> socket.socket:
    """Bind a Unix socket, replacing one that nobody listens on any more; raises `CannotListen`."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            try:
                bound.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise CannotListen(f"cannot listen on {path}: another program does")
            finally:
                bound.close()
            bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(str(path))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise CannotListen(f"cannot listen on {path}: {error.strerror}") from None
    bound.setblocking(False)
    return bound


LAST_WORDS = 10.0
"""Seconds that cancelled requests have for recording what is known of them."""


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    async def send(self, message: Any) -> None:
        """Let an `urgent` message past a client that does not keep up, and end what was refused.

        A refused handshake counts as a finished one; uvicorn would log it as the application's mistake.
        """
        full = message.pop("urgent", False) and not self.writable.is_set()
        if full:
            self.writable.set()
        await super().send(message)
        if full and not self.disconnected:
            self.writable.clear()
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        """Wait to be stopped. uvicorn looks ten times a second, to keep headers fresh that are not sent here."""
        await self.stopping.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever started the process."""
        yield


class Server:
    """An application being served."""

    def __init__(self, app: Callable[..., Any], listener: socket.socket, *, tls: dict[str, Any] | None = None) -> None:
        self._listener = listener
        name = listener.getsockname()
        self.port: int = name[1] if isinstance(name, tuple) else 0
        """The TCP port that is listened on; 0 for a Unix socket."""
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                http=HttpProtocol,
                ws=_WebSocketProtocol,
                ws_max_size=BIGGEST_MESSAGE,
                ws_per_message_deflate=False,
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                server_header=False,
                date_header=False,
                access_log=False,
                log_config=None,
                **(tls or {}),
            )
        )
        self._tasks = Tasks()
        self._serving: asyncio.Task[None] | None = None

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._uvicorn.server_state.connections)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop, so that nobody is accepted any more."""
        return self._uvicorn.should_exit

    async def start(self) -> None:
        """Return when requests are answered."""
        self._serving = self._tasks.spawn(self._uvicorn.serve([self._listener]), name="server")
        while not self._uvicorn.started:
            if self._serving.done():
                self._serving.result()
                raise CannotListen("the server stopped before it had started")
            await asyncio.sleep(0.001)

    async def stop(self, grace: float = 10.0) -> None:
        """Accept nobody any more, let running requests end for `grace` seconds, then cancel them. Can be repeated."""
        # uvicorn takes None for "as long as it takes", and a float although its type says int.
        self._uvicorn.config.timeout_graceful_shutdown = max(grace, 0.001)  # type: ignore[assignment]
        self._uvicorn.should_exit = True
        self._uvicorn.stopping.set()
        if self._serving is not None:
            await asyncio.wait({self._serving})
        for late in tuple(self._uvicorn.server_state.connections):
            # uvicorn asks the connections that are there when it begins to stop; these came a moment later.
            late.shutdown()
        self._give_up()
        await asyncio.sleep(0)
        if running := set(self._uvicorn.server_state.tasks):
            # They were cancelled; what they still have to write down must not be cut off.
            await asyncio.wait(running, timeout=LAST_WORDS)

    def hurry(self) -> None:
        """Cancel what is running, so that a `stop` under way comes to its end."""
        for task in tuple(self._uvicorn.server_state.tasks):
            task.cancel()
        self._give_up()

    def _give_up(self) -> None:
        """See to what runs without a task: it becomes one, and is cancelled."""
        for connection in tuple(self._uvicorn.server_state.connections):
            if isinstance(connection, HttpProtocol):
                connection.give_up()


@contextlib.asynccontextmanager
async def serving(app: Callable[..., Any], listener: socket.socket, *, grace: float = 10.0) -> AsyncIterator[Server]:
    """Serve `app` for the length of a `with` block."""
    server = Server(app, listener)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(grace)
