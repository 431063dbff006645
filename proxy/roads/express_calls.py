"""The express road of mutations: the steps of `proxy.roads.json`, each taken by whoever brings what it waits for.

The promises are those of `proxy.mirror`, whose attempt this road drives: intents durable, then forwarded, then
outcomes and events durable, then answered. Only there is no task that waits: the log, the legacy's connection and the
log again call the next step. It goes on only as long as everything is plain: entities that are free, a legacy that
answers whole and clearly, a log that can be written, a client and a server that stay. In every other case a task takes
the request over where it stands and goes the common road with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container, Sequence
from enum import Enum
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from proxy import idempotency
from proxy.exchange import Exchange
from proxy.forward import Forwarding, Receive, Scope, Send, sender_of
from proxy.framing import Refused, headers_named, request_head
from proxy.judging import Asked, Call
from proxy.mirror import Attempt
from proxy.roads.json import OF_GATEWAYS, mirror_json, read_answer, readable_answer, streams_events
from proxy.roads.passage import Passage
from proxy.trpc.inputs import BodyKind, body_kind
from proxy.trpc.streams import stream_kind
from proxy.upstream import Answer, Lost
from proxy.upstream.connection import Connection, header_lines
from shadow.faults import Point, reach

logger = structlog.get_logger(__name__)

Travel = Callable[[Scope, Send, Awaitable[None]], Awaitable[None]]
"""Goes the common road to its end, and answers when that is an error."""


class PostHead(msgspec.Struct, frozen=True):
    """What a client's headers come to: the lines for the legacy, cut at the body's length, and who acts."""

    before: bytes
    after: bytes
    actor: str | None


class Unfit(msgspec.Struct, frozen=True):
    """The headers are those of a request that has to take the common road."""


UNFIT = Unfit()


def express_head(
    exchange: Exchange, read: Container[bytes], actor_header: bytes, forwarding: Forwarding
) -> PostHead | Unfit:
    """Return what a POST's headers come to.

    `read` are the headers, in lower case, that a mutation's way depends on, `actor_header` the one that names who acts.
    """
    lower = [(name.lower(), value) for name, value in exchange.headers]
    said = headers_named(lower, read)
    opaque = body_kind(said.get(b"content-type")) is BodyKind.OPAQUE
    if opaque or said.get(idempotency.HEADER) or stream_kind(lower) is not None:
        return UNFIT
    sender = sender_of(exchange.client, exchange.scheme, forwarding)
    try:
        head = request_head(b"POST", exchange.target, exchange.headers, sender, version=exchange.version.encode())
    except Refused:
        return UNFIT
    headers = readable_answer(head).headers
    place = next((at for at, (name, _) in enumerate(headers) if name.lower() == b"content-length"), None)
    if place is None:
        return UNFIT
    actor = said.get(actor_header)
    before = header_lines([*headers[:place], (headers[place][0], b"")], b"")[: -len(b"\r\n")]
    after = b"\r\n" + header_lines(headers[place + 1 :], b"\r\n")
    return PostHead(before, after, actor.decode("latin-1") if actor else None)


class Waiting(Enum):
    """What a flight waits for."""

    INTENTS = "intents"
    ANSWER = "answer"
    OUTCOMES = "outcomes"


class Flight:
    """One request under way. It stands where a future would, for the log and for the legacy's connection."""

    __slots__ = (
        "_answer",
        "_asked",
        "_attempt",
        "_body",
        "_calls",
        "_connection",
        "_exchange",
        "_head",
        "_leave",
        "_passage",
        "_taken_over",
        "_travel",
        "_waiting",
    )

    def __init__(
        self,
        passage: Passage,
        exchange: Exchange,
        attempt: Attempt,
        calls: Sequence[Call],
        asked: Asked,
        body: bytes,
        *,
        head: PostHead,
        travel: Travel,
        leave: Callable[[], None],
    ) -> None:
        """`attempt` has claimed what `calls` are about, which are all that the request has.

        `leave` is called once the request's way has ended.
        """
        self._passage = passage
        self._exchange = exchange
        self._attempt = attempt
        self._calls = calls
        self._asked = asked
        self._head = head
        self._travel = travel
        self._leave = leave
        self._body = body
        self._waiting = Waiting.INTENTS
        self._connection: Connection | None = None
        self._answer: Answer | None = None
        self._taken_over: asyncio.Future[Any] | None = None

    def depart(self) -> None:
        """Ask for the intents; everything else follows."""
        exchange = self._exchange
        exchange.on_disconnect = exchange.on_give_up = self._left_alone
        try:
            self._attempt.begin_at_once(self)
        except Exception as error:  # noqa: BLE001 # whatever it is, the common road says it to the client
            self.set_exception(error)

    # --- in a future's stead -----------------------------------------------------------------------------------

    def done(self) -> bool:
        """Tell whether nobody waits any longer."""
        return self._taken_over is not None and self._taken_over.done()

    cancelled = done

    def set_result(self, result: Any) -> None:
        """Go on with what came, or give it to the task that took over."""
        if self._taken_over is not None:
            self._taken_over.set_result(result)
            return
        try:
            if self._waiting is Waiting.INTENTS:
                self._forward(result)
            elif self._waiting is Waiting.ANSWER:
                self._settle(result)
            else:
                self._tell()
        except Exception as error:  # noqa: BLE001 # the common road ends what an error interrupts, whatever it is
            self.set_exception(error)

    def set_exception(self, error: BaseException) -> None:
        """Have a task see to what went wrong."""
        self._take_over().set_exception(error)

    # --- the steps ---------------------------------------------------------------------------------------------

    def _forward(self, ids: tuple[int, ...]) -> None:
        if not self._attempt.begun_at_once(ids):
            self._take_over().set_result(ids)
            return
        connection = self._passage.upstream.idle(safe=False)
        if connection is None:
            self._take_over().set_result(ids)
            return
        head, body, target = self._head, self._body, self._exchange.target
        self._connection = connection
        self._waiting = Waiting.ANSWER
        wire = b"POST %b HTTP/1.1\r\n%b%d%b%b" % (target, head.before, len(body), head.after, body)
        connection.write(b"POST", wire, self, None)

    def _settle(self, answer: Answer) -> None:
        whole = answer.whole
        if whole is None or answer.status in OF_GATEWAYS or streams_events(answer):
            self._take_over().set_result(answer)
            return
        reach(Point.FORWARDED)
        outcomes = read_answer(len(self._calls), answer, whole, self._passage.transformer)
        settlements = self._attempt.judged_at_once(outcomes)
        if settlements is None:
            self._take_over().set_result(answer)
            return
        self._answer = answer
        self._waiting = Waiting.OUTCOMES
        self._attempt.settle_at_once(settlements, self)

    def _tell(self) -> None:
        self._attempt.settled_at_once()
        exchange, answer = self._exchange, self._answer
        assert answer is not None
        exchange.on_disconnect = exchange.on_give_up = None
        self._leave()
        try:
            exchange.pass_on(answer, answer.whole or b"")
        except Exception:
            logger.exception("request_failed", method=exchange.method)
            exchange.fail()
        reach(Point.TOLD)

    # --- the common road ---------------------------------------------------------------------------------------

    def _take_over(self) -> asyncio.Future[Any]:
        """Have a task go on from here; returns what it waits for, and gives it what comes for this flight."""
        if self._taken_over is not None:
            return self._taken_over
        exchange, attempt = self._exchange, self._attempt
        exchange.on_disconnect = exchange.on_give_up = None
        self._taken_over = awaited = asyncio.get_running_loop().create_future()
        if self._waiting is Waiting.INTENTS:
            attempt.ahead = replace(attempt.ahead, begun=awaited)
        elif self._waiting is Waiting.OUTCOMES:
            attempt.ahead = replace(attempt.ahead, settled=awaited)
        exchange.start(self._go_on)
        return awaited

    def _left_alone(self) -> None:
        """Nobody waits for the answer any more, or not for long: let a task see the request through."""
        self._take_over()

    async def _go_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        asking = None if self._waiting is Waiting.INTENTS else self._asking()
        road = mirror_json(
            self._passage,
            scope,
            send,
            self._calls,
            self._asked,
            self._body,
            count=len(self._calls),
            begun=self._attempt,
            asking=asking,
        )
        try:
            await self._travel(scope, send, road)
        finally:
            self._leave()

    async def _asking(self) -> Answer:
        if self._answer is not None:
            return self._answer
        assert self._taken_over is not None
        assert self._connection is not None
        try:
            answer: Answer = await self._taken_over
        except asyncio.CancelledError:
            self._connection.abort(Lost("given_up", "the request was given up"))
            raise
        return answer
