"""The road of reads that only pass through: one that is all here goes from one connection to the other, and back.

No task runs for it and nothing waits: what arrives is written on by whoever it arrives with. That costs half of what
the same costs as an ASGI application. Everything that cannot go on at once takes the common road (`proxy.forward`)
from where it stands: no idle connection, an answer that comes in pieces, a connection that died under the request.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import structlog

from proxy.exchange import Exchange
from proxy.forward import Forwarding, Receive, Refuse, Scope, Send, send_answer, sender_of
from proxy.framing import Refused, request_head
from proxy.upstream import Answer, Lost, Upstream
from proxy.upstream.connection import Connection, header_lines

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Express:
    """Takes requests on the way to one legacy."""

    upstream: Upstream
    forwarding: Forwarding
    refuse: Refuse
    learned: Container[bytes]
    """The paths of which a GET has nothing to be learned from any more."""
    ordinary: Callable[[bytes], bool]
    """Whether a request for this path, with whatever query, is not the proxy's own to answer or to listen to."""
    forwarded: Callable[[], None]
    """Called for each request that is taken."""

    def __call__(self, exchange: Exchange) -> bool:
        """Forward a GET if that can be done at once; returns whether."""
        if exchange.method != "GET" or not exchange.bare:
            return False
        target = exchange.target
        path = target.partition(b"?")[0]
        if path not in self.learned or not self.ordinary(path):
            return False
        lines = exchange.recall(exchange.headers)
        if lines is None:
            lines = self._lines(exchange)
            if lines is None:
                return False
            exchange.remember(exchange.headers, lines)
        connection = self.upstream.idle(safe=True)
        if connection is None:
            return False
        self.forwarded()
        passing = Passing(exchange, connection, self.refuse)
        connection.write(b"GET", b"GET %b HTTP/1.1\r\n%b" % (target, lines), passing, exchange.inform)
        return True

    def _lines(self, exchange: Exchange) -> bytes | None:
        """Return the header lines that go to the legacy; None for a head that is refused."""
        sender = sender_of(exchange.client, exchange.scheme, self.forwarding)
        version = exchange.version.encode()
        try:
            head = request_head(b"GET", exchange.target, exchange.headers, sender, version=version)
        except Refused:
            return None
        return header_lines(head.headers, b"\r\n")


class Passing:
    """One request on its way, waiting for its answer in a future's stead."""

    __slots__ = ("_connection", "_exchange", "_refuse", "_retry", "_told")

    def __init__(self, exchange: Exchange, connection: Connection, refuse: Refuse) -> None:
        self._exchange = exchange
        self._connection = connection
        self._refuse = refuse
        self._retry = connection.used > 0
        """Whether the connection was idle before, so that its end may have nothing to do with this request."""
        self._told = False
        exchange.on_disconnect = self._give_up

    def done(self) -> bool:
        """Tell whether it was told."""
        return self._told

    def set_result(self, answer: Answer) -> None:
        """Pass the answer on if it is all here, else have that done as it comes."""
        self._told = True
        exchange = self._exchange
        exchange.on_disconnect = None
        whole = answer.whole
        if whole is None:
            exchange.on_disconnect = answer.close
            exchange.start(_Rest(exchange, answer))
            return
        try:
            exchange.pass_on(answer, whole)
        except Exception:
            # The legacy's connection is in order; whatever is wrong with the answer is the client's loss alone.
            logger.exception("request_failed", method=exchange.method)
            exchange.fail()

    def set_exception(self, error: Lost) -> None:
        """Try once more on the common road if the connection had just died, else say why there is no answer."""
        self._told = True
        exchange = self._exchange
        exchange.on_disconnect = None
        if exchange.disconnected:
            return
        if self._retry and self._connection.died_unheard(error):
            exchange.start()
            return
        status, headers, body = self._refuse(exchange.scope, error.status, str(error))
        exchange.respond(status, headers, body)

    def _give_up(self) -> None:
        self._connection.abort(Lost("given_up", "the request was given up"))


@dataclass(frozen=True, slots=True)
class _Rest:
    """An application that answers with what still comes of an answer."""

    exchange: Exchange
    answer: Answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.exchange.disconnected:
            self.answer.close()
            return
        self.exchange.on_disconnect = None
        self.exchange.cancels = True
        await send_answer(send, self.answer)
