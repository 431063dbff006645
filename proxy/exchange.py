"""One HTTP request and its answer: what an application has of them, whoever it is.

To an application it is plain ASGI. What plain ASGI has no words for is in `scope["extensions"]["changeover"]`, the
`Exchange` itself, and in these additions to messages, which other servers ignore:

- `http.response.start` may carry `reason` (bytes), and `body_follows` (True) when the next message is sent at once;
- the last `http.response.body` may carry `trailers` (header pairs).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog

from proxy.framing import Pairs, has_no_body

if TYPE_CHECKING:
    from proxy.http1 import HttpProtocol
    from proxy.upstream import Answer

logger = structlog.get_logger(__name__)

HIGH_WATER = 64 * 1024
"""Bytes of a request's body that are kept for an application that does not read them."""

MOST_REMEMBERED = 4096
"""Bytes of headers that are remembered for one kind of request on one connection."""

Header = tuple[bytes, bytes]
"""A header's name and value."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_FRAMING_SIZES = frozenset(map(len, _FRAMING))
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
        """How the client came: `http` or `https`."""
        return self._connection.scheme

    @property
    def plain(self) -> bool:
        """Whether the request is all here, without trailers, and its client waits for nothing but the answer."""
        odd = self.trailers or self._expects_continue or self.disconnected or self._connection.drained
        return self.complete and not odd

    @property
    def bare(self) -> bool:
        """Whether it is plain, and consists of nothing but its head."""
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
        """Remember what was made of headers for the next such request on this connection: clients repeat them.

        Large ones are not remembered, so that an idle connection holds little memory.
        """
        if sum([len(name) + len(value) for name, value in headers]) <= MOST_REMEMBERED:
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
        if self.disconnected or self.started:
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
        lines = [status_line(answer.status, answer.reason), *map(b": ".join, answer.headers), end + body]
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
        body = self.body
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
            lines = [status_line(status, reason), *map(b": ".join, headers), b"\r\n"]
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
        head = b"\r\n".join([status_line(status, reason), *map(b": ".join, kept), framing])
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


def status_line(status: int, reason: bytes | None) -> bytes:
    """Return the first line of an answer; without a `reason` the usual one."""
    if reason is None:
        reason = _REASONS.get(status, b"")
    return b"HTTP/1.1 %d %b" % (status, reason)


def _framed(body: bytes) -> bytes:
    """Return a piece of a body, not empty, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


# Bytes keep their hash: looking up a piece that another client has just got costs less than framing it again.
_chunk = lru_cache(maxsize=8)(_framed)
