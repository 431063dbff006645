"""The client's side of HTTP/1.1: an ASGI protocol that keeps what a proxy must not lose.

It takes the place of uvicorn's own HTTP protocol and differs in what reaches the wire: header names keep their
letter case both ways, the request target its every byte, an answer its reason phrase, trailers and interim
answers, and a head leaves in one write with the first piece of its body.

To an application it is plain ASGI. What plain ASGI has no words for is in `scope["extensions"]["changeover"]`, an
`Exchange`, and in these additions to messages, which other servers ignore:

- `http.response.start` may carry `reason` (bytes), and `body_follows` (True) when the next message is sent at once;
- the last `http.response.body` may carry `trailers` (header pairs).

An application may have a `shortcut(exchange)`. It is asked before the application is called, in the middle of the
connection's own work, and says whether it has taken the exchange: then there is no task, no scope and no message, and
whoever took it calls `respond`, or `start` after all.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote_to_bytes

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from proxy.framing import Pairs, Refused, has_no_body, origin_target, trailer_fields

if TYPE_CHECKING:
    from proxy.upstream import Answer

logger = structlog.get_logger(__name__)

HIGH_WATER = 64 * 1024
MOST_HEADER_BYTES = 64 * 1024
IDLE_SECONDS = 75.0
HEAD_SECONDS = 30.0
LINGER_SECONDS = 5.0

Header = tuple[bytes, bytes]
"""A header's name and value."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_FRAMING_SIZES = frozenset(map(len, _FRAMING))
_READ_SIZES = frozenset(map(len, (b"host", b"expect", b"transfer-encoding")))
_FAILED = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"21"),
    (b"connection", b"close"),
]
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Truncated(Exception):
    """Raised by an application whose answer broke off after its head went out.

    The client's connection is cut, so that it sees a broken answer and not a short one. Nothing is logged.
    """


class Exchange:
    """One request and its answer; the application's `receive` and `send`."""

    trailers: Sequence[Header] = ()
    """The request's trailers; there once the body is complete."""
    on_disconnect: Callable[[], None] | None = None
    """Called, at most once, when the client goes before the answer has ended."""
    on_give_up: Callable[[], None] | None = None
    """Called when the server waits no longer and no task works for the exchange: it may start one, to be cancelled."""
    cancels = False
    """Whether the client's going cancels the application's task (in silence)."""
    complete = False
    """Whether the whole request has arrived."""
    disconnected = False
    started = False
    ended = False
    keep_alive = True

    begun = False
    """Whether somebody has taken it on: the application, or its shortcut."""

    _expects_continue = False
    _size = 0
    _end_taken = False
    _waiter: asyncio.Future[None] | None = None
    _head: bytes | None = None
    _chunked = False
    _no_body = False
    _left = 0
    _task: asyncio.Task[None] | None = None

    def __init__(self, connection: HttpProtocol, method: str, version: str, target: bytes, headers: Pairs) -> None:
        self.method = method
        self.version = version
        """The version of HTTP that the client speaks, "1.1" or "1.0"."""
        self.target = target
        """The request target in origin form, exactly as sent."""
        self.headers = headers
        """The request's headers in the sender's letter case."""
        self._connection = connection
        self._body: list[bytes] = []

    # --- the application's side --------------------------------------------------------------------------------

    @property
    def scope(self) -> dict[str, Any]:
        """The request as an ASGI scope, made anew each time."""
        return self._connection.scope(self)

    @property
    def client(self) -> tuple[str, int] | None:
        """The client's address; None on a Unix socket."""
        return self._connection.client

    @property
    def scheme(self) -> str:
        """ "http" or "https", as the client came."""
        return self._connection.scheme

    @property
    def plain(self) -> bool:
        """Whether the request is all here, without trailers, and its client waits for nothing but the answer."""
        odd = self.trailers or self._expects_continue or self.disconnected or self._connection.drained
        return self.complete and not odd

    @property
    def bare(self) -> bool:
        """Whether it is plain, and nothing but its head."""
        return not self._body and self.plain

    @property
    def body(self) -> bytes:
        """What is here of the request's body and was not received yet."""
        pieces = self._body
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def recall(self, headers: Pairs) -> Any:
        """Return what was remembered on this connection for such a request with these headers, or None."""
        known = self._connection.remembered.get(self.method)
        return known[1] if known is not None and known[0] == headers else None

    def remember(self, headers: Pairs, made: object) -> None:
        """Remember what was made of headers for the next such request on this connection: clients repeat them."""
        self._connection.remembered[self.method] = headers, made

    @property
    def has_task(self) -> bool:
        """Whether a task works for it."""
        return self._task is not None

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        """Answer with all there is, now; does nothing once the client has gone."""
        if not self.disconnected:
            self._send_start(status, None, headers)
            self._send_body(body, False, ())

    def pass_on(self, answer: Answer, body: bytes) -> None:
        """Answer with what the legacy answered, whose whole body this is; does nothing once the client has gone."""
        if self.disconnected:
            return
        if answer.length < 0:
            self._send_start(answer.status, answer.reason, answer.headers)
            self._send_body(body, False, answer.trailers)
            return
        # A head that was read by `proxy.framing` needs no second look: it says how long the body is, and nothing else.
        self.started = self.ended = True
        self.answer_headers = answer.headers
        connection = self._connection
        if connection.stopping:
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n"
        lines = [_status_line(answer.status, answer.reason), *map(b": ".join, answer.headers), end + body]
        connection.write(b"\r\n".join(lines))
        connection.answered(self)

    async def receive(self) -> dict[str, Any]:
        """Return all of the body that is here; after its end wait until the client goes or the answer has ended."""
        if self._expects_continue and not self.started:
            self._expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self.ended:
                return {"type": "http.disconnect"}
            if self._body or (self.complete and not self._end_taken):
                return self._take()
            self._connection.resume_reading()
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _take(self) -> dict[str, Any]:
        pieces = self._body
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._body = []
        self._size = 0
        self._end_taken = self.complete
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: dict[str, Any]) -> None:
        """Write a part of the answer; waits while the client does not keep up, does nothing once it has gone."""
        connection = self._connection
        if connection.drained is not None and not self.disconnected and not message.get("urgent", False):
            # Whoever is cancelled here must not take the future away from those who come after.
            await asyncio.shield(connection.drained)
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.started and not self.ended:
            self._send_body(message.get("body", b""), message.get("more_body", False), message.get("trailers", ()))
        elif kind == "http.response.start" and not self.started:
            self._send_start(message["status"], message.get("reason"), message.get("headers", ()))
            if not message.get("body_follows", False):
                self._connection.loop.call_soon(self._flush)
        else:
            raise RuntimeError(f"the message {kind!r} does not fit here in an HTTP answer")

    def push(self, piece: bytes) -> bool:
        """Write a piece of an answer of unknown length at once; False, and nothing is written, if `send` must do it.

        That is so while the client does not keep up, before the head has left, and after the end. For pieces that many
        clients get, one right after the other: they are framed once.
        """
        connection = self._connection
        if not piece or connection.drained is not None or self._head is not None or self.ended or self.disconnected:
            return False
        if self._chunked:
            connection.write(_chunk(piece))
        elif self._left < 0:
            connection.write(piece)
        else:
            return False
        return True

    def inform(self, status: int, reason: bytes, headers: Pairs) -> None:
        """Send an interim (1xx) answer; does nothing once the answer has started, or for a client of HTTP/1.0."""
        if not (self.started or self.disconnected) and self.version == "1.1":
            lines = [_status_line(status, reason), *map(b": ".join, headers), b"\r\n"]
            self._connection.write(b"\r\n".join(lines))

    def _send_start(self, status: int, reason: bytes | None, headers: Pairs) -> None:
        self.started = True
        self.answer_headers = headers
        if self._expects_continue or self._connection.stopping:
            # Whether the body still comes cannot be known, so nothing may follow on this connection.
            self.keep_alive = False
        length: int | None = None
        kept = headers
        for pair in headers:
            name = pair[0]
            if len(name) in _FRAMING_SIZES and (lower := name.lower()) in _FRAMING:
                if lower == b"content-length":
                    length = int(pair[1])
                else:
                    # How the body is framed and whether the connection stays open is decided here.
                    self.keep_alive = self.keep_alive and b"close" not in pair[1].lower()
                    kept = [each for each in kept if each is not pair]
        framing = self._frame(status, length)
        head = b"\r\n".join([_status_line(status, reason), *map(b": ".join, kept), framing])
        if head.count(b"\n") != 1 + len(kept) + framing.count(b"\n"):
            raise RuntimeError("a header of the answer holds a line break")
        self._head = head

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer is a stream of events to a GET: cutting it loses nothing, its client comes back."""
        return self.method == "GET" and any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in self.answer_headers
        )

    def _frame(self, status: int, length: int | None) -> bytes:
        """Decide how the body ends; returns the last lines of the head."""
        framing = b""
        self._no_body = self.method == "HEAD" or has_no_body(b"", status)
        if length is not None:
            self._left = length
        elif self._no_body:
            pass
        elif self.version == "1.1":
            self._chunked = True
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self.keep_alive = False
            self._left = -1
        return framing + (b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n")

    def _send_body(self, body: bytes, more: bool, trailers: Sequence[Header]) -> None:
        if self._no_body:
            wire = b""
        elif self._chunked:
            wire = _framed(body) if body else b""
            if not more:
                wire += b"0\r\n" + b"".join([b"%b: %b\r\n" % pair for pair in trailers]) + b"\r\n"
        else:
            wire = body
            if self._left >= 0:
                self._left -= len(body)
                if self._left < 0 or (self._left > 0 and not more):
                    self.keep_alive = False
                    self.ended = True
                    self._connection.cut()
                    raise RuntimeError("the answer's body has not the length that its head declares")
        head = self._head
        if head is not None:
            self._head = None
            self._connection.write(head + wire)
        elif wire:
            self._connection.write(wire)
        if not more:
            self.ended = True
            self.wake()
            self._connection.answered(self)

    def drop(self) -> None:
        """Throw away what the client has not taken, and the connection with it."""
        self._connection.abort()

    def _flush(self) -> None:
        """Let the head go alone when no piece of the body came at once."""
        head = self._head
        if head is not None:
            self._head = None
            self._connection.write(head)

    # --- the connection's side ---------------------------------------------------------------------------------

    async def run(self, app: Callable[..., Any], scope: dict[str, Any]) -> None:
        """Run the application and see to it that the client gets an answer or a cut connection."""
        try:
            await app(scope, self.receive, self.send)
        except Truncated:
            self._connection.cut()
        except asyncio.CancelledError:
            self._connection.cut()
            if not (self.cancels and self.disconnected):
                raise
        except Exception:
            logger.exception("request_failed", method=self.method)
            self.fail()
        else:
            if not (self.ended or self.disconnected):
                logger.error("request_unanswered", method=self.method)
                self.fail()
        finally:
            self._connection.tasks.discard(self._task)

    def start(self, app: Callable[..., Any] | None = None) -> None:
        """Run the application, or another one, in a task of its own."""
        self.begun = True
        connection = self._connection
        self._task = task = connection.loop.create_task(self.run(app or connection.app, self.scope))
        connection.tasks.add(task)

    def fail(self) -> None:
        """Tell the client that its request could not be served, or cut the connection when the answer has begun."""
        if self.started:
            self._connection.cut()
        else:
            self.respond(500, _FAILED, b"Internal Server Error")

    def give_up(self) -> None:
        """Have a task that works for this exchange cancelled; if there is none, cut the connection."""
        if self._task is None and self.on_give_up is not None:
            self.on_give_up()
        if self._task is None:
            self._connection.cut()
        else:
            # A task that was made just now has to begin, so that it can end as one that was cancelled.
            self._connection.loop.call_soon(self._task.cancel)

    def expect_continue(self) -> None:
        """Note that the client waits for a 100 before it sends the body."""
        self._expects_continue = True

    def feed(self, piece: bytes) -> bool:
        """Take a piece of the body in; returns whether there is too much of it unread."""
        if self.ended:
            return False
        self._expects_continue = False
        self._body.append(piece)
        self._size += len(piece)
        self.wake()
        return self._size > HIGH_WATER

    def wake(self) -> None:
        """Let a waiting `receive` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def disconnect(self) -> None:
        """The client has gone."""
        if self.ended or self.disconnected:
            return
        self.disconnected = True
        self.wake()
        if self.on_disconnect is not None:
            self.on_disconnect()
        if self.cancels and self._task is not None:
            self._task.cancel()


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
        if self._shortcut is not None and self._shortcut(exchange):
            exchange.begun = True
        else:
            exchange.start()

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
            self.write(b"%b\r\n%b\r\n\r\n%b" % (_status_line(refusal.status, None), head, body))
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


def _framed(body: bytes) -> bytes:
    """Return a piece of a body, not empty, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


# Bytes keep their hash: looking up a piece that another client has just got costs less than framing it again.
_chunk = lru_cache(maxsize=8)(_framed)

_ASGI = {"version": "3.0", "spec_version": "2.4"}


def _status_line(status: int, reason: bytes | None) -> bytes:
    if reason is None:
        reason = _REASONS.get(status, b"")
    return b"HTTP/1.1 %d %b" % (status, reason)
