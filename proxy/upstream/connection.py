"""One connection to the legacy: one request at a time, written once, its answer parsed as it comes."""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from proxy.framing import (
    UNTIL_CLOSE,
    BadAnswer,
    Pairs,
    RequestHead,
    answer_head,
    trailer_fields,
)
from proxy.upstream.answer import Answer
from proxy.upstream.errors import Lost

if TYPE_CHECKING:
    from proxy.upstream.pool import Upstream

Informational = Callable[[int, bytes, Pairs], None]
"""Called for each 1xx answer but 100: status, reason, headers."""

MOST_HEADER_BYTES = 256 * 1024


class Expecting(Protocol):
    """Whoever waits for an answer's head: a future, or what acts at once. It is told exactly once."""

    def done(self) -> bool:
        """Tell whether it has been told, or waits no longer."""

    def set_result(self, answer: Answer, /) -> None:
        """Take the answer; its body may be here already."""

    def set_exception(self, error: Lost, /) -> None:
        """Learn that no answer comes."""


class Connection(asyncio.Protocol):
    """A keep-alive HTTP/1.1 connection; owned by the pool, which lends it for one exchange at a time.

    Nothing is ever written twice. After an exchange the connection is handed back only when both messages ended
    as they should; otherwise it is closed.
    """

    __slots__ = (
        "_answer",
        "_clean",
        "_drained",
        "_expected",
        "_head_bytes",
        "_headers",
        "_informational",
        "_keep_alive",
        "_length",
        "_loop",
        "_message_ended",
        "_method",
        "_notice",
        "_parser",
        "_poll",
        "_pool",
        "_reason",
        "_request_ended",
        "_transport",
        "_upload",
        "closed",
        "deadline",
        "deadline_code",
        "heard",
        "idle_limit",
        "idle_since",
        "used",
    )

    def __init__(self, pool: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._poll = select.poll()
        self.closed = False
        self.used = 0
        self.heard = False
        """Whether a byte of the current answer has arrived."""
        self.idle_since = loop.time()
        self.idle_limit: float | None = None
        self.deadline = math.inf
        self.deadline_code = "response_timeout"
        self._drained: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._begin(b"", None, None)

    def _begin(self, method: bytes, expected: Expecting | None, notice: Informational | None) -> None:
        self._method = method
        self._expected = expected
        self._notice = notice
        self._answer: Answer | None = None
        self._headers: Pairs = []
        self._head_bytes = 0
        self._reason = b""
        self._length = 0
        self._informational = False
        self._message_ended = False
        self._request_ended = False
        self._keep_alive = True
        self._clean = True
        self.heard = False

    # --- the pool's side -------------------------------------------------------------------------------------

    def idle_seconds(self) -> float:
        """Return for how long nobody has used it."""
        return self._loop.time() - self.idle_since

    def is_quiet(self) -> bool:
        """Tell whether the kernel has nothing to read: no end of stream, no reset, no stray byte."""
        return not self.closed and not self._poll.poll(0)

    def send(self, head: RequestHead, body: bytes, notice: Informational | None) -> asyncio.Future[Answer]:
        """Write a whole request at once; the future is the answer's head, or `Lost`."""
        declared = head.content_length
        framing = b"Content-Length: %d\r\n\r\n" % len(body) if declared is None and body else b"\r\n"
        expected: asyncio.Future[Answer] = self._loop.create_future()
        self.write(head.method, head_bytes(head, framing) + body, expected, notice)
        return expected

    def write(self, method: bytes, wire: bytes, expected: Expecting, notice: Informational | None) -> None:
        """Write the bytes of a whole request; `expected` is told of the answer's head, or of `Lost`."""
        self._begin(method, expected, notice)
        self.used += 1
        self._request_ended = True
        self._wait_for_answer()
        self._transport.write(wire)

    def stream(
        self, head: RequestHead, body: AsyncIterator[bytes], notice: Informational | None
    ) -> asyncio.Future[Answer]:
        """Write a request whose body comes in pieces, waiting whenever the legacy does not keep up."""
        expected: asyncio.Future[Answer] = self._loop.create_future()
        self._begin(head.method, expected, notice)
        self.used += 1
        chunked = head.content_length is None
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n"
        self._transport.write(head_bytes(head, framing))
        self._upload = self._pool.tasks.spawn(self._send_pieces(body, head.content_length), name="upload")
        return expected

    def died_unheard(self, error: Lost) -> bool:
        """Tell whether the legacy closed the connection instead of answering, as it does with one that was idle."""
        return not self.heard and error.code in ("reset", "closed_early")

    def abort(self, error: Lost) -> None:
        """End the exchange with `error` and close at once; does nothing when it has ended."""
        self._fail(error)

    def _wait_for_answer(self) -> None:
        self.deadline_code = "response_timeout"
        self.deadline = self._loop.time() + self._pool.limits.response_timeout

    # --- uploads ---------------------------------------------------------------------------------------------

    async def _send_pieces(self, body: AsyncIterator[bytes], declared: int | None) -> None:
        try:
            sent = await (self._send_chunks(body) if declared is None else self._send_plain(body, declared))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 # whatever stopped the sender is told to the waiter
            self._fail(Lost("request_cut", "the request's body stopped in the middle"), cause=error)
            return
        if self.closed:
            return
        if declared is not None and sent != declared:
            self._fail(Lost("request_cut", f"the request's body has not the {declared} bytes that its head declares"))
            return
        self._request_ended = True
        if self._answer is None:
            self._wait_for_answer()

    async def _send_chunks(self, body: AsyncIterator[bytes]) -> int:
        sent = 0
        async for piece in body:
            if self.closed:
                return sent
            if piece:
                sent += len(piece)
                self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
                await self._drain()
        if not self.closed:
            self._transport.write(b"0\r\n\r\n")
        return sent

    async def _send_plain(self, body: AsyncIterator[bytes], declared: int) -> int:
        sent = 0
        async for piece in body:
            sent += len(piece)
            if self.closed or sent > declared:
                return sent
            self._transport.write(piece)
            await self._drain()
        return sent

    async def _drain(self) -> None:
        drained = self._drained
        if drained is None:
            return
        if self._answer is None:
            self.deadline_code = "write_timeout"
            self.deadline = self._loop.time() + self._pool.limits.write_timeout
        await drained
        if self._answer is None:
            self.deadline = math.inf

    def pause_writing(self) -> None:
        """Make uploads wait."""
        if self._drained is None:
            self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let uploads go on."""
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # --- asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLHUP)

    def data_received(self, data: bytes) -> None:
        """Parse; everything that follows from it happens in the callbacks below and in `_after`."""
        if self._expected is None:
            self._fail(Lost("bad_answer", "the legacy sent something nobody asked for"))
            return
        self.heard = True
        if self._answer is None:
            if self._head_bytes > MOST_HEADER_BYTES:
                self._fail(Lost("bad_answer", "the head of the legacy's answer is longer than 256 KiB"))
                return
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Lost("bad_answer", "the legacy switched protocols without being asked to"))
        except httptools.HttpParserError as error:
            if self._message_ended:
                self._clean = False
            else:
                cause = error.__context__
                detail = cause if isinstance(cause, BadAnswer) else error
                self._fail(Lost("bad_answer", f"the legacy's answer cannot be read: {detail}"))
        self._after()

    def eof_received(self) -> None:
        """The legacy has closed its side: the end of a body without a length, or the end of the connection."""
        self._ended_by_peer(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended_by_peer(exc)
        self.closed = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
            self._drained = None
        self._pool.closed(self)

    def _ended_by_peer(self, exc: Exception | None) -> None:
        self.closed = True
        answer = self._answer
        if self._expected is None or self._message_ended:
            self._transport.close()
        elif answer is None:
            code, text = ("reset", "was reset") if exc or self.heard else ("closed_early", "was closed")
            self._fail(Lost(code, f"the connection to the legacy {text} before its answer came"))
        elif self._length == UNTIL_CLOSE and exc is None:
            self._message_ended = True
            self._clean = False
            self._after()
        else:
            self._fail(Lost("truncated", "the legacy's answer was cut short"))

    # --- httptools callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Notice an answer to nobody's question: such a connection is never used again."""
        if self._message_ended:
            self._clean = False

    def on_status(self, reason: bytes) -> None:
        """Take in (a piece of) the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take in a header, or a trailer once the head is complete."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide what the body is and make the answer."""
        if self._message_ended:
            raise BadAnswer("it is followed by another answer")
        parser = self._parser
        status = parser.get_status_code()
        headers, self._headers = self._headers, []
        reason, self._reason = self._reason, b""
        if status < 200:
            self._informational = True
            if status == 101:
                raise BadAnswer("it switches protocols without being asked to")
            if status != 100 and self._notice is not None:
                self._notice(status, reason, headers)
            return
        head = answer_head(self._method, status, headers, keep_alive=parser.should_keep_alive())
        self._keep_alive = head.keep_alive
        self.idle_limit = head.idle_limit
        self._length = head.length
        self._answer = Answer(status, reason, head.headers, head.length, self)
        if self._method == b"HEAD":
            # The parser would wait for the body that the headers tell of; this answer has none.
            self._parser = httptools.HttpResponseParser(self)
            self._message_ended = True

    def on_body(self, piece: bytes) -> None:
        """Pass a piece of the body on."""
        if self._message_ended or self._answer is None:
            raise BadAnswer("it has a body where none may be")
        self._answer.feed(piece)

    def on_message_complete(self) -> None:
        """Note the end; what follows from it waits until the parser has returned."""
        if self._informational:
            self._informational = False
            return
        if self._answer is not None:
            if self._headers:
                self._answer.trailers = trailer_fields(self._headers)
                self._headers = []
            self._message_ended = True

    # --- what follows ------------------------------------------------------------------------------------------

    def _after(self) -> None:
        answer = self._answer
        expected = self._expected
        if answer is None or expected is None:
            return
        if self._message_ended:
            self.deadline = math.inf
            answer.end()
            if not expected.done():
                expected.set_result(answer)
            self._finish()
            return
        timeout = self._pool.limits.body_timeout
        self.deadline_code = "body_timeout"
        self.deadline = math.inf if timeout is None or answer.paused else self._loop.time() + timeout
        if not expected.done():
            expected.set_result(answer)

    def _finish(self) -> None:
        """The answer has ended: hand the connection back, or close it when it cannot be used again."""
        if self._expected is None:
            return
        if not self._request_ended:
            # An early answer: the legacy has said all it will, so the rest of the upload is of no use to it.
            if self._upload is not None:
                self._upload.cancel()
            self._keep_alive = False
        if self._answer is not None and self._answer.paused:
            self.set_reading(True)
        self._expected = None
        self._answer = None
        self._upload = None
        if self._keep_alive and self._clean and not self.closed:
            self.idle_since = self._loop.time()
            self._pool.release(self)
        else:
            self.closed = True
            self._transport.close()

    def _fail(self, error: Lost, *, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        expected, answer, upload = self._expected, self._answer, self._upload
        self._expected = self._answer = self._upload = None
        self.deadline = math.inf
        self.closed = True
        self._transport.abort()
        if upload is not None and cause is None:
            upload.cancel()
        if answer is not None:
            answer.end(error)
        if expected is not None and not expected.done():
            expected.set_exception(error)

    def set_reading(self, reading: bool) -> None:
        """Stop taking bytes from the legacy, or go on."""
        if self.closed:
            return
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def abandon(self) -> None:
        """Break the current answer off; called by whoever does not read on."""
        self._fail(Lost("given_up", "the answer was given up before its end"))


def head_bytes(head: RequestHead, framing: bytes) -> bytes:
    """Write a request head out; `framing` is the last header lines and the empty line."""
    return b"%b %b HTTP/1.1\r\n%b" % (head.method, head.target, header_lines(head.headers, framing))


def header_lines(headers: Pairs, framing: bytes) -> bytes:
    """Write headers out; `framing` is the last header lines and the empty line."""
    lines = [b": ".join(pair) for pair in headers]
    lines.append(framing)
    return b"\r\n".join(lines)
