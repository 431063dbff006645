"""The data port's ASGI application: tells mutations from everything else and sends each its way."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from msgspec.structs import replace

from proxy import idempotency
from proxy.claims import EntityBusy
from proxy.exchange import Exchange
from proxy.fence import Fence
from proxy.forward import Forwarding, Receive, Refuse, Scope, Send, forward, outgoing_head, refuse_framing, send_whole
from proxy.framing import Refused as BadFraming
from proxy.framing import headers_named
from proxy.judging import Asked, Call
from proxy.metrics import Metrics
from proxy.mirror import Mirror, NotRecorded, Unrecordable
from proxy.plans import Plan, Plans
from proxy.procedures import READS, Procedures
from proxy.roads.express import Express
from proxy.roads.express_calls import Flight, PostHead, Unfit, express_head
from proxy.roads.json import ClientLeft, TooLarge, mirror_json, whole_body
from proxy.roads.opaque import OpaqueBody
from proxy.roads.passage import Passage
from proxy.roads.sse import tap_events
from proxy.roads.stream import mirror_stream
from proxy.roads.websocket import WebSocketRoad
from proxy.subscriptions import Subscriptions
from proxy.taps import Taps
from proxy.trpc.inputs import BodyKind, Input, Malformed, body_kind, decode_inputs
from proxy.trpc.streams import StreamKind, stream_kind
from proxy.trpc.targets import Calls, Refused
from proxy.trpc.transformers import Transformer
from proxy.trpc.values import UNDEFINED
from proxy.upstream import Upstream
from proxy.websocket import forward_websocket
from shadow.contract import Contract, Tap
from shadow.errors import KeyReused, LogUnavailable
from shadow.json import Json

logger = structlog.get_logger(__name__)

RESERVED = "/_changeover/"
"""Paths that the proxy answers itself."""
_RESERVED = RESERVED.encode()
_LENGTH = b"content-length"


@dataclass(frozen=True, slots=True)
class Proxy:
    """One data port."""

    contract: Contract
    mirror: Mirror
    fence: Fence
    upstream: Upstream
    procedures: Procedures
    sockets: WebSocketRoad
    taps: Taps
    subscriptions: Subscriptions
    metrics: Metrics
    transformer: Transformer
    forwarding: Forwarding
    refuse: Refuse
    max_body: int
    actor_header: bytes
    """The request header, in lower case, that names who acts; empty: nobody is named."""
    clock: Callable[[], int]
    new_id: Callable[[], str]
    answers: idempotency.Journal
    keep_answers: float = 24 * 3600
    """Seconds for which an answer is kept under its idempotency key."""
    plans: Plans = field(init=False)
    passage: Passage = field(init=False)
    express: Express = field(init=False)
    read_headers: frozenset[bytes] = field(init=False)
    """The request headers, in lower case, that a mutation's way depends on."""

    def __post_init__(self) -> None:
        passage = Passage(self.mirror, self.upstream, self.transformer, self.forwarding, self.refuse)
        read_headers = frozenset({b"content-type", idempotency.HEADER, self.actor_header} - {b""})
        object.__setattr__(self, "plans", Plans(self.contract, self._set_apart))
        object.__setattr__(self, "passage", passage)
        object.__setattr__(self, "read_headers", read_headers)
        express = Express(
            self.upstream,
            self.forwarding,
            self.refuse,
            self.procedures.learned,
            self._ordinary,
            self.metrics.forwarded,
        )
        object.__setattr__(self, "express", express)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket" and scope["path"].startswith(RESERVED):
            await self.subscriptions.reserved_socket(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["path"].startswith(RESERVED):
            await self.subscriptions.reserved(scope, receive, send)
        elif self.subscriptions.calls.wants(scope) and (target := self._overlaid(scope)) is not None:
            await self.subscriptions.calls.answer(scope, receive, send, target, self)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        elif scope["method"] == "GET":
            await self._get(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    def shortcut(self, exchange: Exchange) -> bool:
        """Take what can go on at once, without a task (see `proxy.http1`); tells whether that is so."""
        return self._depart(exchange) if exchange.method == "POST" else self.express(exchange)

    def _ordinary(self, raw_path: bytes) -> bool:
        """Tell whether nothing that the proxy itself answers or taps can be meant by a path."""
        return self.plans.ordinary(raw_path) and not raw_path.startswith(_RESERVED)

    def _depart(self, exchange: Exchange) -> bool:
        """Send a request's mutations on the express road if they are fit for it; tells whether they are."""
        raw_path, _, query = exchange.target.partition(b"?")
        body = exchange.body
        if not (exchange.plain and body and len(body) <= self.max_body and self._ordinary(raw_path)):
            return False
        plan = self.plans.post(raw_path, query)
        if not (isinstance(plan, Plan) and plan.mapped and self.mirror.mirrors_all(plan.phases)):
            return False
        head = self._head(exchange)
        if head is None or not self.fence.enter_open(plan.phases):
            return False
        flight: Flight | None = None
        try:
            flight = self._flight(exchange, plan, head, body)
        finally:
            if flight is None:
                self.fence.leave(plan.phases)
        if flight is not None:
            flight.depart()
        return flight is not None

    def _flight(self, exchange: Exchange, plan: Plan, head: PostHead, body: bytes) -> Flight | None:
        """Make a flight of a request inside the fence; None if its entities are not free, or it is not plain."""
        calls = _calls_of(plan, decode_inputs(plan.calls, "POST", body, self.transformer))
        asked = Asked(self.new_id(), self.clock(), head.actor)
        attempt = self.mirror.attempt(calls, asked)
        if not attempt.claim_at_once():
            return None
        leave = partial(self.fence.leave, plan.phases)
        return Flight(self.passage, exchange, attempt, calls, asked, body, head=head, travel=self._travel, leave=leave)

    def _head(self, exchange: Exchange) -> PostHead | None:
        """Return what the headers come to; None for headers with which a request is not fit for the express road."""
        size = len(_LENGTH)
        headers = [pair for pair in exchange.headers if len(pair[0]) != size or pair[0].lower() != _LENGTH]
        known: PostHead | Unfit | None = exchange.recall(headers)
        if known is None:
            known = express_head(exchange, self.read_headers, self.actor_header, self.forwarding)
            exchange.remember(headers, known)
        return None if isinstance(known, Unfit) else known

    def _set_apart(self, path: str) -> bool:
        return path in self.contract.taps or self.subscriptions.calls.overlay.kind(path) is not None

    def _overlaid(self, scope: Scope) -> Calls | None:
        """Return the calls of a request if some of them are answered by the proxy itself."""
        target = self.plans.target(scope["method"], scope["raw_path"], scope["query_string"])
        return target if isinstance(target, Calls) and self.subscriptions.calls.takes(target) else None

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.forwarded()
        inner = partial(self.sockets.watch, asked=lambda: self._asked(self._said(scope)))
        await forward_websocket(
            scope,
            receive,
            send,
            self.upstream,
            forwarding=self.forwarding,
            refuse=self.refuse,
            watch=partial(self.subscriptions.sockets.watch, inner=inner),
            unserved=partial(self.subscriptions.sockets.alone, scope, receive, send),
        )

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.contract.taps and (tapped := self._tapped(scope)) is not None:
            self.metrics.forwarded()
            await tap_events(
                scope,
                receive,
                send,
                tap=tapped[0],
                given=tapped[1],
                actor=self._asked(self._said(scope)).actor,
                taps=self.taps,
                upstream=self.upstream,
                transformer=self.transformer,
                forwarding=self.forwarding,
                refuse=self.refuse,
            )
        else:
            learning = self.procedures.learning(send, scope["raw_path"], scope["query_string"])
            await self._pass(scope, receive, learning)

    def _tapped(self, scope: Scope) -> tuple[Tap, Json] | None:
        """Return the tap of the subscription that a GET asks for, with its input; None for any other request."""
        target = self.plans.target("GET", scope["raw_path"], scope["query_string"])
        if not isinstance(target, Calls) or len(target.paths) != 1:
            return None
        tap = self.taps.on(target.paths[0])
        if tap is None:
            return None
        (given,) = decode_inputs(target, "GET", b"", self.transformer)
        return tap, None if given is UNDEFINED or isinstance(given, Malformed) else given

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.forwarded()
        await forward(scope, receive, send, self.upstream, forwarding=self.forwarding, refuse=self.refuse)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self.plans.post(scope["raw_path"], scope["query_string"])
        if isinstance(plan, Plan):
            if not self.fence.enter_open(plan.phases):
                await self.fence.enter(plan.phases)
            try:
                await self._calls(scope, receive, send, plan)
            finally:
                self.fence.leave(plan.phases)
        elif isinstance(plan, Refused):
            self.metrics.not_mirrored("refused_target")
            await send_whole(send, *self.refuse(scope, 400, plan.reason))
        else:
            await self._pass(scope, receive, send)

    async def _calls(self, scope: Scope, receive: Receive, send: Send, plan: Plan) -> None:
        paths, rules = plan.calls.paths, plan.rules
        mirrored = [
            self.mirror.mirrors(rule) and (rule is not None or not self.procedures.reads_only(path))
            for path, rule in zip(paths, rules, strict=True)
        ]
        if not any(mirrored):
            if any(rules):
                self.metrics.not_mirrored("stage_off")
            elif not all(map(self.procedures.reads_only, paths)):
                self.metrics.not_mirrored("unmapped")
            await self._pass(scope, receive, send)
            return
        said = self._said(scope)
        asked = self._asked(said)
        if body_kind(said.get(b"content-type")) is BodyKind.OPAQUE:
            opaque = OpaqueBody(scope, receive)
            calls = self._named(scope, plan, mirrored, (opaque.input,) * len(paths))
            body = opaque.pieces()
            road = mirror_json(
                self.passage, scope, send, calls, asked, body, count=len(paths), described=lambda: opaque.input
            )
            await self._travel(scope, send, road)
            return
        try:
            read = await whole_body(receive, self.max_body)
        except ClientLeft:
            return
        except TooLarge:
            sentence = f"a mutation's body may have {self.max_body} bytes here; raise --max-body for larger ones"
            await send_whole(send, *self.refuse(scope, 413, sentence))
            return
        calls = self._named(scope, plan, mirrored, decode_inputs(plan.calls, "POST", read, self.transformer))
        kind = stream_kind(scope["headers"]) if plan.calls.batch else None
        key = said.get(idempotency.HEADER)
        if not key:
            await self._travel(scope, send, self._road(scope, send, calls, asked, read, len(paths), kind))
        elif len(key) > idempotency.LONGEST:
            sentence = f"an Idempotency-Key has {idempotency.LONGEST} bytes at most"
            await send_whole(send, *self.refuse(scope, 400, sentence))
        else:
            await self._once(scope, send, calls, plan.calls, asked, read, key.decode("latin-1"), kind)

    def _road(
        self,
        scope: Scope,
        send: Send,
        calls: list[Call],
        asked: Asked,
        body: bytes,
        count: int,
        kind: StreamKind | None,
    ) -> Awaitable[None]:
        if kind is None:
            return mirror_json(self.passage, scope, send, calls, asked, body, count=count)
        return mirror_stream(self.passage, scope, send, calls, asked, body, count=count, kind=kind)

    def _named(self, scope: Scope, plan: Plan, mirrored: list[bool], inputs: Sequence[Input]) -> list[Call]:
        """Return the mirrored ones of a request's calls."""
        return [
            call
            if call.rule is not None
            else replace(call, only_reads=partial(self._only_reads, scope, call.procedure))
            for call, wanted in zip(_calls_of(plan, inputs), mirrored, strict=True)
            if wanted
        ]

    async def _only_reads(self, scope: Scope, path: str) -> bool:
        kind = await self.procedures.probed(path, outgoing_head(scope, self.forwarding))
        return kind in READS

    async def _once(
        self,
        scope: Scope,
        send: Send,
        calls: list[Call],
        target: Calls,
        asked: Asked,
        body: bytes,
        key: str,
        kind: StreamKind | None,
    ) -> None:
        """Forward the request unless one with its key was before; then answer as that one was answered."""
        caller = [value for name, value in scope["headers"] if name.lower() in {b"authorization", b"cookie"}]
        parts = (*(path.encode() for path in target.paths), body, *caller)
        digest = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
        fingerprint = self.mirror.privacy.fingerprint(digest)
        while True:
            keep_until = asked.received + round(self.keep_answers * 1000)
            asked = replace(asked, idempotency=key, fingerprint=fingerprint, keep_until=keep_until)
            # What is kept for a retry has to be whole when it is settled.
            road = mirror_json(self.passage, scope, send, calls, asked, body, count=len(target.paths), kind=kind)
            try:
                return await self._travel(scope, send, road)
            except KeyReused:
                pass
            answer = await idempotency.find(
                self.answers,
                self.mirror.privacy,
                key,
                [call.index for call in calls],
                fingerprint,
                clock=self.clock,
                patience=self.mirror.patience,
            )
            if isinstance(answer, idempotency.Refused):
                return await send_whole(send, *self.refuse(scope, answer.status, answer.sentence))
            if answer is not None:
                self.metrics.not_mirrored("answered_again")
                start = {"type": "http.response.start", "status": answer.status, "reason": answer.reason}
                await send({**start, "headers": answer.headers})
                return await send({"type": "http.response.body", "body": answer.body})
            asked = replace(asked, request=self.new_id(), received=self.clock())

    async def _travel(self, scope: Scope, send: Send, road: Awaitable[None]) -> None:
        """Go a request's road to its end; raises `KeyReused` before anything is forwarded."""
        try:
            await road
        except BadFraming as error:
            await refuse_framing(scope, send, error, self.refuse)
        except EntityBusy as error:
            self.metrics.not_mirrored("entity_busy")
            await send_whole(send, *self.refuse(scope, 503, str(error)))
        except Unrecordable as error:
            self.metrics.not_mirrored("unrecordable")
            await send_whole(send, *self.refuse(scope, 400, str(error)))
        except NotRecorded as error:
            logger.error("outcome_not_recorded", reason=str(error))
            sentence = "the call was forwarded, but the event log cannot be written; it will be told as soon as it can"
            await send_whole(send, *self.refuse(scope, 504, sentence))
        except LogUnavailable as error:
            logger.error("log_unavailable", reason=str(error))
            self.metrics.not_mirrored("log_unavailable")
            sentence = "the event log cannot be written, so no mutation is taken; try again shortly"
            await send_whole(send, *self.refuse(scope, 503, sentence))

    def _asked(self, said: Mapping[bytes, bytes]) -> Asked:
        """Return who asks, and when, by what the headers say."""
        actor = said.get(self.actor_header)
        return Asked(self.new_id(), self.clock(), actor.decode("latin-1") if actor else None)

    def _said(self, scope: Scope) -> dict[bytes, bytes]:
        return headers_named(scope["headers"], self.read_headers)


def _calls_of(plan: Plan, inputs: Sequence[Input]) -> list[Call]:
    """Return a request's calls with their inputs.

    A malformed input goes on: v11 may run the call all the same, and its outcome counts.
    """
    return [
        Call(index, path, None if given is UNDEFINED or isinstance(given, Malformed) else given, rule)
        for index, (path, rule, given) in enumerate(zip(plan.calls.paths, plan.rules, inputs, strict=True))
    ]
