"""The plainest road: JSON mutations, single or batched, in one POST whose answer is read whole."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from proxy.forward import Receive, Scope, Send, outgoing_head, send_answer, send_whole
from proxy.framing import RequestHead, header
from proxy.idempotency import Retried
from proxy.judging import Asked, Call
from proxy.mirror import Attempt
from proxy.roads.passage import Passage
from proxy.trpc.envelopes import MISSING, CallOutcome, Unknown, decode_answer
from proxy.trpc.streams import StreamKind, stream_decoder
from proxy.trpc.transformers import Transformer
from proxy.upstream import Answer, Lost, NotSent, UpstreamError
from shadow.faults import Point, reach
from shadow.json import Json

BIGGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are held in memory at most; a longer one leaves its calls in doubt."""

OF_GATEWAYS = frozenset({408, 429, 499, 502, 503, 504})
"""Statuses that, without a word of tRPC, come from whoever stands before the legacy: the call may still run."""


class TooLarge(Exception):
    """A body is larger than may be held in memory."""


class ClientLeft(Exception):
    """The client went away before its request was complete; nothing was forwarded."""


async def whole_body(receive: Receive, limit: int) -> bytes:
    """Return the request's body; raises `TooLarge` beyond `limit` bytes and `ClientLeft`."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise TooLarge
        return body
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()
    raise ClientLeft


async def mirror_json(
    passage: Passage,
    scope: Scope,
    send: Send,
    calls: Sequence[Call],
    asked: Asked,
    body: bytes | AsyncIterator[bytes],
    *,
    count: int,
    kind: StreamKind | None = None,
    described: Callable[[], Json] | None = None,
    begun: Attempt | None = None,
    asking: Awaitable[Answer] | None = None,
) -> None:
    """Forward one request once, settle its calls, and only then send the legacy's answer, unchanged.

    `count` is the number of calls in the request, `calls` those of them that are mirrored. With `kind` the answer may
    be a streamed batch; it is read to its end first all the same. A body that comes in pieces streams through;
    `described` gives the calls' input as it is known once the answer is here. An attempt that has `begun` is taken up
    where it stands; `asking`, when the request is forwarded already, is its answer.
    """
    upstream = passage.upstream
    head = readable_answer(outgoing_head(scope, passage.forwarding))
    whole: bytes | None = None
    try:
        async with begun or passage.mirror.attempt(calls, asked) as attempt:
            try:
                answer = await (asking or upstream.request(head, body))
                if streams_events(answer):
                    await attempt.nothing_applied("subscription")
                else:
                    whole = await whole_answer(answer, upstream.limits.response_timeout)
            except NotSent as error:
                await attempt.not_sent(error.code)
                raise
            except Lost as error:
                await attempt.doubt(error.code)
                raise
            reach(Point.FORWARDED)
            if described is not None:
                attempt.describe(described())
            if whole is not None:
                outcomes = read_answer(count, answer, whole, passage.transformer, kind=kind)
                kept = None if asked.idempotency is None else kept_answer(answer, whole)
                await settle_whole(attempt, outcomes, answer.status, kept)
    except UpstreamError as error:
        await send_whole(send, *passage.refuse(scope, error.status, str(error)))
        return
    if whole is None:
        await send_answer(send, answer)
        return
    await send(
        {"type": "http.response.start", "status": answer.status, "reason": answer.reason, "headers": answer.headers}
    )
    await send({"type": "http.response.body", "body": whole, "trailers": answer.trailers})
    reach(Point.TOLD)


async def settle_whole(
    attempt: Attempt, outcomes: Sequence[CallOutcome], status: int, kept: bytes | None = None
) -> None:
    """Settle the calls of an answer that was read whole; one that only a gateway can have given tells of none.

    `kept` is the answer as it is to be kept for a retry.
    """
    if status in OF_GATEWAYS and all(isinstance(outcome, Unknown) for outcome in outcomes):
        await attempt.doubt(f"gateway:{status}")
    else:
        await attempt.settle(dict(enumerate(outcomes)), answer=kept)


def streams_events(answer: Answer) -> bool:
    """Tell whether an answer is a stream of events: tRPC answers so to subscriptions, which mutate nothing."""
    return header(answer.headers, b"content-type").lower().startswith(b"text/event-stream")


async def whole_answer(answer: Answer, patience: float | None = None) -> bytes:
    """Return the answer's body; raises `Lost` when it breaks off or is larger than `BIGGEST_ANSWER`.

    So it does when nothing more of it comes for `patience` seconds.
    """
    if answer.whole is not None:
        return answer.whole
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            async with asyncio.timeout(patience):
                part = await answer.arrived()
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > BIGGEST_ANSWER:
                raise Lost("answer_too_large", "the legacy's answer to a mutation is too large to be read")
    except TimeoutError:
        raise Lost("response_timeout", "the legacy did not go on with its answer in time") from None
    finally:
        answer.close()


def kept_answer(answer: Answer, body: bytes) -> bytes:
    """Return an answer as it is kept for a retry."""
    return Retried(answer.status, answer.reason, answer.headers, body).kept()


def read_answer(
    count: int, answer: Answer, body: bytes, transformer: Transformer, *, kind: StreamKind | None = None
) -> tuple[CallOutcome, ...]:
    """Return what became of each call; an answer that cannot be unpacked leaves all of them unknown."""
    encoding = header(answer.headers, b"content-encoding").strip().lower()
    if encoding in {b"gzip", b"x-gzip", b"deflate"}:
        try:
            body = zlib.decompressobj(wbits=47).decompress(body, BIGGEST_ANSWER)
        except zlib.error:
            return (Unknown("undecodable_answer"),) * count
    elif encoding not in {b"", b"identity"}:
        return (Unknown("undecodable_answer"),) * count
    if kind is None:
        return decode_answer(count, answer.status, body, transformer)
    decoder = stream_decoder(kind, count, transformer, status=answer.status)
    told = {each.index: each.outcome for each in [*decoder.feed(body), *decoder.close()]}
    return tuple(told.get(index, MISSING) for index in range(count))


def readable_answer(head: RequestHead) -> RequestHead:
    """Return the head with no other answer encodings on offer than those that can be read here."""
    if not any(_offers_more(name, value) for name, value in head.headers if len(name) == len(b"accept-encoding")):
        return head
    headers = [
        (name, readable_encodings(value)) if name.lower() == b"accept-encoding" else (name, value)
        for name, value in head.headers
    ]
    return RequestHead(head.method, head.target, headers, head.content_length)


def _offers_more(name: bytes, value: bytes) -> bool:
    return name.lower() == b"accept-encoding" and (b"br" in value or b"zstd" in value or b"*" in value)


def readable_encodings(value: bytes) -> bytes:
    """Keep of an Accept-Encoding value what can be read here."""
    known = (b"gzip", b"x-gzip", b"deflate", b"identity")
    kept = [part for part in value.split(b",") if part.split(b";")[0].strip().lower() in known]
    return b",".join(kept).strip() or b"identity"
