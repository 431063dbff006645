"""The data port's ASGI application: tells mutations from everything else and sends each its way."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
from msgspec.structs import replace

from proxy import idempotency
from proxy.fence import Fence
from proxy.forward import Forwarding, Receive, Refuse, Scope, Send, forward, outgoing_head, refuse_framing, send_whole
from proxy.framing import Refused as BadFraming
from proxy.metrics import Metrics
from proxy.mirror import Asked, Call, EntityBusy, Mirror, NotRecorded
from proxy.procedures import READS, Procedures
from proxy.roads.json import ClientLeft, TooLarge, header, mirror_json, whole_body
from proxy.roads.opaque import OpaqueBody
from proxy.roads.sse import tap_events
from proxy.roads.stream import mirror_stream
from proxy.roads.websocket import WebSocketRoad
from proxy.subscriptions import Subscriptions
from proxy.taps import Taps
from proxy.trpc.inputs import BodyKind, Input, Malformed, body_kind, decode_inputs
from proxy.trpc.streams import StreamKind, stream_kind
from proxy.trpc.targets import Calls, NotCalls, Refused, Target, parse_target
from proxy.trpc.transformers import Transformer
from proxy.trpc.values import UNDEFINED
from proxy.upstream import Upstream
from proxy.websocket import forward_websocket
from shadow.contract import Contract, Rule, Tap
from shadow.errors import KeyReused, LogUnavailable
from shadow.json import Json

logger = structlog.get_logger(__name__)

RESERVED = "/_changeover/"
"""Paths that the proxy answers itself."""


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

    def _overlaid(self, scope: Scope) -> Calls | None:
        """Return the calls of a request if some of them are answered by the proxy itself."""
        target = parse_target(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            base_path=self.contract.legacy.base_path,
            separator=self.contract.legacy.separator,
            procedures=self.contract.mutations,
        )
        return target if isinstance(target, Calls) and self.subscriptions.calls.takes(target) else None

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.forwarded()
        inner = partial(self.sockets.watch, asked=partial(self._asked, scope))
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
                actor=self._asked(scope).actor,
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
        target = self._target("GET", scope)
        if not isinstance(target, Calls) or len(target.paths) != 1:
            return None
        tap = self.taps.on(target.paths[0])
        if tap is None:
            return None
        (given,) = decode_inputs(target, "GET", b"", self.transformer)
        return tap, None if given is UNDEFINED or isinstance(given, Malformed) else given

    def _target(self, method: str, scope: Scope) -> Target:
        legacy = self.contract.legacy
        return parse_target(
            method,
            scope["raw_path"],
            scope["query_string"],
            base_path=legacy.base_path,
            separator=legacy.separator,
            procedures=self.contract.mutations,
        )

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.metrics.forwarded()
        await forward(scope, receive, send, self.upstream, forwarding=self.forwarding, refuse=self.refuse)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = self._target("POST", scope)
        match target:
            case NotCalls():
                await self._pass(scope, receive, send)
            case Refused(reason):
                self.metrics.not_mirrored("refused_target")
                await send_whole(send, *self.refuse(scope, 400, reason))
            case Calls(paths):
                rules = [self.contract.mutations.get(path) for path in paths]
                inside = await self.fence.enter(sorted({rule.phase for rule in rules if rule}))
                try:
                    await self._calls(scope, receive, send, target, rules)
                finally:
                    self.fence.leave(inside)

    async def _calls(self, scope: Scope, receive: Receive, send: Send, target: Calls, rules: list[Rule | None]) -> None:
        reads = [
            rule is None and self.procedures.reads_only(path) for path, rule in zip(target.paths, rules, strict=True)
        ]
        mirrored = [not read and self.mirror.mirrors(rule) for read, rule in zip(reads, rules, strict=True)]
        if not any(mirrored):
            if not all(reads):
                self.metrics.not_mirrored("stage_off" if any(rules) else "unmapped")
            await self._pass(scope, receive, send)
            return
        if body_kind(header(scope["headers"], b"content-type")) is BodyKind.OPAQUE:
            opaque = OpaqueBody(scope, receive)
            calls = self._named(scope, target, rules, mirrored, (opaque.input,) * len(target.paths))
            road = partial(mirror_json, body=opaque.pieces(), described=lambda: opaque.input)
            await self._travel(scope, send, road, calls, len(target.paths), self._asked(scope))
            return
        try:
            body = await whole_body(receive, self.max_body)
        except ClientLeft:
            return
        except TooLarge:
            sentence = f"a mutation's body may have {self.max_body} bytes here; raise --max-body for larger ones"
            await send_whole(send, *self.refuse(scope, 413, sentence))
            return
        inputs = decode_inputs(target, "POST", body, self.transformer)
        calls = self._named(scope, target, rules, mirrored, inputs)
        kind = stream_kind(scope["headers"]) if target.batch else None
        key = header(scope["headers"], idempotency.HEADER)
        if not key:
            road = partial(mirror_json, body=body) if kind is None else partial(mirror_stream, body=body, kind=kind)
            await self._travel(scope, send, road, calls, len(target.paths), self._asked(scope))
        elif len(key) > idempotency.LONGEST:
            sentence = f"an Idempotency-Key has {idempotency.LONGEST} bytes at most"
            await send_whole(send, *self.refuse(scope, 400, sentence))
        else:
            await self._once(scope, send, calls, target, body, key.decode("latin-1"), kind)

    def _named(
        self, scope: Scope, target: Calls, rules: list[Rule | None], mirrored: list[bool], inputs: Sequence[Input]
    ) -> list[Call]:
        """Return the mirrored ones of a request's calls."""
        calls: list[Call] = []
        for index, (path, rule, given) in enumerate(zip(target.paths, rules, inputs, strict=True)):
            if mirrored[index]:
                # A malformed input goes on: v11 may run the call all the same, and its outcome counts.
                readable = given is not UNDEFINED and not isinstance(given, Malformed)
                only_reads = None if rule else partial(self._only_reads, scope, path)
                calls.append(Call(index, path, given if readable else None, rule, only_reads))
        return calls

    async def _only_reads(self, scope: Scope, path: str) -> bool:
        kind = await self.procedures.probed(path, outgoing_head(scope, self.forwarding))
        return kind in READS

    async def _once(
        self, scope: Scope, send: Send, calls: list[Call], target: Calls, body: bytes, key: str, kind: StreamKind | None
    ) -> None:
        """Forward the request unless one with its key was before; then answer as that one was answered."""
        caller = [value for name, value in scope["headers"] if name.lower() in {b"authorization", b"cookie"}]
        parts = (*(path.encode() for path in target.paths), body, *caller)
        digest = hashlib.sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
        fingerprint = self.mirror.privacy.fingerprint(digest)
        # What is kept for a retry has to be whole when it is settled.
        road = partial(mirror_json, body=body, kind=kind)
        while True:
            asked = self._asked(scope)
            keep_until = asked.received + round(self.keep_answers * 1000)
            asked = replace(asked, idempotency=key, fingerprint=fingerprint, keep_until=keep_until)
            try:
                return await self._travel(scope, send, road, calls, len(target.paths), asked)
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

    async def _travel(
        self,
        scope: Scope,
        send: Send,
        road: Callable[..., Awaitable[None]],
        calls: list[Call],
        count: int,
        asked: Asked,
    ) -> None:
        """Send the request on its road; raises `KeyReused` before anything is forwarded."""
        try:
            await road(
                scope,
                send,
                calls=calls,
                count=count,
                asked=asked,
                mirror=self.mirror,
                upstream=self.upstream,
                transformer=self.transformer,
                forwarding=self.forwarding,
                refuse=self.refuse,
            )
        except BadFraming as error:
            await refuse_framing(scope, send, error, self.refuse)
        except EntityBusy as error:
            self.metrics.not_mirrored("entity_busy")
            await send_whole(send, *self.refuse(scope, 503, str(error)))
        except NotRecorded as error:
            logger.error("outcome_not_recorded", reason=str(error))
            sentence = "the call was forwarded, but the event log cannot be written; it will be told as soon as it can"
            await send_whole(send, *self.refuse(scope, 504, sentence))
        except LogUnavailable as error:
            logger.error("log_unavailable", reason=str(error))
            self.metrics.not_mirrored("log_unavailable")
            sentence = "the event log cannot be written, so no mutation is taken; try again shortly"
            await send_whole(send, *self.refuse(scope, 503, sentence))

    def _asked(self, scope: Scope) -> Asked:
        actor = header(scope["headers"], self.actor_header) if self.actor_header else b""
        return Asked(self.new_id(), self.clock(), actor.decode("latin-1") or None)
