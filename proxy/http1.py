"""The client's side of HTTP/1.1: an ASGI protocol that keeps what a proxy must not lose.

It takes the place of uvicorn's own HTTP protocol and differs in what reaches the wire: header names keep their
letter case both ways, the request target its every byte, an answer its reason phrase, trailers and interim
answers, and a head leaves in one write with the first piece of its body. An application sees a `proxy.exchange`.

An application may have a `shortcut(exchange)`. It is asked before the application is called, in the middle of the
connection's own work, and says whether it has taken the exchange: then there is no task, no scope and no message, and
whoever took it calls `respond` or `pass_on`, or `start` after all.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote_to_bytes

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from proxy.exchange import Exchange, status_line
from proxy.framing import Pairs, Refused, origin_target, trailer_fields

logger = structlog.get_logger(__name__)

logger = structlog.get_logger(__name__)

MOST_HEADER_BYTES = 64 * 1024
IDLE_SECONDS = 75.0
HEAD_SECONDS = 30.0
LINGER_SECONDS = 5.0

_READ_SIZES = frozenset(map(len, (b"host", b"expect", b"transfer-encoding")))


class HttpProtocol(asyncio.Protocol):
    """One client's connection: parses requests and runs the application for one after the other."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        self.config = config
        self.loop: asyncio.AbstractEventLoop = _loop or asyncio.get_running_loop()
        self.drained: asyncio.Future[None] | None = None
        """Set while the client does not keep up; done when it has."""
        self.stopping = False
        self.app: Callable[..., Any] = config.loaded_app
        self._shortcut: Callable[[Exchange], bool] | None = getattr(self.app, "shortcut", None)
        self.remembered: dict[str, tuple[Pairs, object]] = {}
        self.tasks: set[Any] = server_state.tasks
        self._state = server_state
        self._app_state = app_state
        self._parser = self._new_parser()
        self._target = b""
        self._headers: Pairs = []
        self._in_head = False
        self._head_bytes = 0
        self._reading: Exchange | None = None
        self._running: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._paused = False
        self._upgrading = False
        self._refusal: Refused | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # --- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Learn who is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(self)  # type: ignore[arg-type] # uvicorn asks only for shutdown()
        self._server = get_local_addr(self._transport)
        self.client = get_remote_addr(self._transport)
        self.scheme = "https" if is_ssl(self._transport) else "http"
        self._deadline = self.loop.time() + HEAD_SECONDS
        self._timer = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: whoever works for it is told."""
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if self._running is not None:
            self._running.disconnect()
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        """Parse; the callbacks below do the rest."""
        if self._in_head:
            if self._head_bytes > MOST_HEADER_BYTES:
                self._refuse(Refused(431, "the request's head is longer than 64 KiB"))
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._begin()
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._begin()
            self._refuse(self._refusal or Refused(400, "this is not HTTP/1.1 that can be read in one way only"))
        else:
            self._begin()

    def _begin(self) -> None:
        """Have the request served that was read last, unless one before it is not answered yet."""
        exchange = self._running
        if exchange is None or exchange.begun:
            return
        if self._taken(exchange):
            exchange.begun = True
        else:
            exchange.start()

    def _taken(self, exchange: Exchange) -> bool:
        """Offer a request to the application's shortcut; one that it fails at is answered for it."""
        try:
            return self._shortcut is not None and self._shortcut(exchange)
        except Exception:
            logger.exception("request_failed", method=exchange.method)
            exchange.fail()
            return True

    def eof_received(self) -> None:
        """The transport closes itself: a client that half-closes is gone, as uvicorn and nginx see it."""

    def pause_writing(self) -> None:
        """Make `send` wait."""
        if self.drained is None:
            self.drained = self.loop.create_future()

    def resume_writing(self) -> None:
        """Let `send` go on."""
        if self.drained is not None:
            self.drained.set_result(None)
            self.drained = None

    def give_up(self) -> None:
        """Wait no longer for what is under way, unless it has a task, which the server cancels."""
        if self._running is not None and not self._running.has_task:
            self._running.give_up()

    def shutdown(self) -> None:
        """Close when idle or in a stream of events, which has no end, else after the current answer."""
        self.stopping = True
        if self._running is None:
            self._transport.close()
        elif not self._running.started:
            self._running.keep_alive = False
        elif self._running.is_event_stream:
            self.cut()

    # --- httptools callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Start a head."""
        self._target = b""
        self._headers = []
        self._in_head = True
        self._head_bytes = 0
        self._reading = None
        self._deadline = self.loop.time() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        """Take in (a piece of) the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header, or a trailer once the head is complete."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Make the exchange and start the application, or queue it behind the one before."""
        parser = self._parser
        self._in_head = False
        self._deadline = math.inf
        if parser.should_upgrade():
            # The parser stops here by itself; `_upgrade` goes on.
            self._upgrading = True
            return
        version = parser.get_http_version()
        host: bytes | None = None
        expects = False
        for name, value in self._headers:
            if len(name) not in _READ_SIZES:
                continue
            lower = name.lower()
            if lower == b"host":
                host = value
            elif lower == b"expect":
                expects = value.lower() == b"100-continue"
            elif lower == b"transfer-encoding" and value.strip(b" \t").lower() != b"chunked":
                self._stop(Refused(501, "the only transfer coding that can be read is one `chunked`"))
        if version not in ("1.1", "1.0"):
            self._stop(Refused(505, "only HTTP/1.1 and HTTP/1.0 are spoken here"))
        target = self._origin_target(host)
        exchange = Exchange(self, parser.get_method().decode("ascii"), version, target, self._headers)
        exchange.keep_alive = version == "1.1" and parser.should_keep_alive()
        if expects and version == "1.1":
            exchange.expect_continue()
        self._headers = []
        self._reading = exchange
        if self._running is None:
            self._running = exchange
        else:
            self._queue.append(exchange)
            self.pause_reading()

    def scope(self, exchange: Exchange) -> dict[str, Any]:
        """Return a request as ASGI has it."""
        raw_path, _, query = exchange.target.partition(b"?")
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace") if b"%" in raw_path else raw_path.decode("latin-1")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": exchange.version,
            "method": exchange.method,
            "scheme": self.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in exchange.headers],
            "server": self._server,
            "client": self.client,
            "state": self._app_state,
            "extensions": {"changeover": exchange},
        }

    def _origin_target(self, host: bytes | None) -> bytes:
        try:
            return origin_target(self._target, host)
        except Refused as refusal:
            self._refusal = refusal
            raise

    def on_body(self, piece: bytes) -> None:
        """Pass a piece of the body to its exchange."""
        if self._reading is not None and self._reading.feed(piece):
            self.pause_reading()

    def on_message_complete(self) -> None:
        """The request is all here."""
        exchange = self._reading
        if exchange is None:
            return
        if self._headers:
            exchange.trailers = trailer_fields(self._headers)
        exchange.complete = True
        exchange.wake()
        if exchange.ended and self._running is None:
            self._idle_or_close(exchange)

    # --- the exchange's side -----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write to the client."""
        self._transport.write(data)

    def cut(self) -> None:
        """Close at once, so that the client sees that its answer is not whole."""
        running = self._running
        if running is not None and running.version != "1.1":
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop taking bytes from the client."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again, unless requests are already waiting."""
        if self._paused and not self._queue and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """The answer has ended: start the next request, wait for one, or close."""
        self._state.total_requests += 1
        self._running = None
        if self._queue and exchange.keep_alive:
            self._running = self._queue.popleft()
            self.loop.call_soon(self._begin)
            return
        if self._paused:
            self.resume_reading()
        self._idle_or_close(exchange)

    def _idle_or_close(self, exchange: Exchange) -> None:
        if exchange.complete:
            if exchange.keep_alive and not self.stopping:
                self._deadline = self.loop.time() + IDLE_SECONDS
            else:
                self._transport.close()
        else:
            # The client is still sending what nobody will read. Closing now could make its kernel throw the answer
            # away, so it may go on for a while.
            self._deadline = self.loop.time() + LINGER_SECONDS
            self._arm(LINGER_SECONDS)

    # --- refusals, upgrades, time ------------------------------------------------------------------------------

    def _stop(self, refusal: Refused) -> None:
        """Stop the parser from within a callback; `data_received` answers."""
        self._refusal = refusal
        raise refusal

    def _refuse(self, refusal: Refused) -> None:
        if self._running is None and not self._transport.is_closing():
            body = str(refusal).encode() + b"\n"
            head = b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close" % len(body)
            self.write(b"%b\r\n%b\r\n\r\n%b" % (status_line(refusal.status, None), head, body))
        elif self._reading is not None:
            self._reading.disconnect()
        self._transport.close()

    def _upgrade(self, rest: bytes) -> None:
        """Hand a WebSocket over; read any other offer to upgrade as a request without it."""
        method = self._parser.get_method()
        lower = [(name.lower(), value) for name, value in self._headers]
        asked = dict(lower)
        if method == b"CONNECT":
            self._refuse(Refused(501, "this is not a forward proxy"))
            return
        websocket = self.config.ws_protocol_class
        if asked.get(b"upgrade", b"").lower() == b"websocket" and method == b"GET" and websocket is not None:
            self._hand_over(websocket, lower, rest)
            return
        self._parser = self._new_parser()
        kept = [pair for pair in self._headers if pair[0].lower() != b"upgrade"]
        lines = [b"%b %b HTTP/1.1\r\n" % (method, self._target), *[b"%b: %b\r\n" % pair for pair in kept], b"\r\n"]
        self.data_received(b"".join(lines) + rest)

    def _hand_over(self, websocket: Callable[..., asyncio.Protocol], headers: Pairs, rest: bytes) -> None:
        if self._running is not None or self._queue:
            self._refuse(Refused(400, "a WebSocket cannot start before the answers before it have ended"))
            return
        if self._timer is not None:
            self._timer.cancel()
        self._state.connections.discard(self)
        protocol = websocket(config=self.config, server_state=self._state, app_state=self._app_state)
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        lines = [b"GET %b HTTP/1.1\r\n" % self._target, *[b"%b: %b\r\n" % pair for pair in headers], b"\r\n"]
        protocol.data_received(b"".join(lines) + rest)

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Close a connection whose time is up. One timer that looks again is cheaper than one per request."""
        now = self.loop.time()
        if self._deadline <= now:
            self._transport.close()
        else:
            self._arm(min(self._deadline - now, HEAD_SECONDS))


_ASGI = {"version": "3.0", "spec_version": "2.4"}
