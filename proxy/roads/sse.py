"""The road of a tapped subscription over server-sent events: it passes byte for byte and is read on the way.

A piece of the stream passes at once unless it ends an item that tells of a write: then it waits for the event. When the
client goes, the legacy is told at once, as without a proxy, for that is how its procedure is stopped; what has
arrived by then is read to its end.
"""

from __future__ import annotations

from proxy.exchange import Truncated
from proxy.forward import (
    Forwarding,
    Receive,
    Refuse,
    Scope,
    Send,
    exchange_of,
    outgoing_head,
    pieces,
    refuse_framing,
    send_answer,
    send_whole,
)
from proxy.framing import Refused, header
from proxy.roads.encodings import Undecodable, Unpack, plainly, tolerant, unpacking
from proxy.roads.json import readable_answer
from proxy.taps import Taps
from proxy.trpc.sse import Item, SseDecoder, read_event
from proxy.trpc.transformers import UNDEFINED, Transformer
from proxy.upstream import Answer, Lost, Upstream, UpstreamError
from shadow.contract import Tap
from shadow.json import Json


async def tap_events(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    tap: Tap,
    given: Json,
    actor: str | None,
    taps: Taps,
    upstream: Upstream,
    transformer: Transformer,
    forwarding: Forwarding,
    refuse: Refuse,
) -> None:
    """Pass a subscription that was asked for by GET through, and take in its items; `given` is its input."""
    answer = await _answer(scope, receive, send, upstream, forwarding, refuse)
    if answer is None:
        return
    unpack = _reading(answer)
    if unpack is None:
        await send_answer(send, answer)
        return
    await send(
        {"type": "http.response.start", "status": answer.status, "reason": answer.reason, "headers": answer.headers}
    )
    decoder = SseDecoder()
    try:
        while piece := await answer.arrived():
            start = end = 0
            for part in _parts(piece, unpack):
                events = [read_event(event, transformer) for event in decoder.feed(unpack(part))]
                if events and end > start:
                    await send({"type": "http.response.body", "body": piece[start:end], "more_body": True})
                    start = end
                for item in events:
                    if isinstance(item, Item):
                        await taps.item(tap, given, None if item.data is UNDEFINED else item.data, actor=actor)
                end += len(part)
            await send({"type": "http.response.body", "body": piece[start:], "more_body": True})
    except Lost as error:
        raise Truncated(str(error)) from error
    finally:
        answer.close()
    await send({"type": "http.response.body", "body": b"", "trailers": answer.trailers})


async def _answer(
    scope: Scope, receive: Receive, send: Send, upstream: Upstream, forwarding: Forwarding, refuse: Refuse
) -> Answer | None:
    """Ask the legacy; None when the client was told already why there is no answer."""
    exchange = exchange_of(scope)
    try:
        head = readable_answer(outgoing_head(scope, forwarding))
        first = await receive()
        if exchange is not None:
            exchange.cancels = True
        body = pieces(first, receive) if first.get("more_body") else first.get("body", b"")
        answer = await upstream.request(head, body)
    except Refused as refusal:
        await refuse_framing(scope, send, refusal, refuse)
        return None
    except UpstreamError as error:
        await send_whole(send, *refuse(scope, error.status, str(error)))
        return None
    if exchange is not None:
        exchange.cancels = False
        exchange.on_disconnect = answer.close
        if exchange.disconnected:
            answer.close()
    return answer


def _reading(answer: Answer) -> Unpack | None:
    """Return what reads the answer; None when it is no stream of events or cannot be read."""
    if not header(answer.headers, b"content-type").lower().startswith(b"text/event-stream"):
        return None
    try:
        return tolerant(unpacking(answer.headers))
    except Undecodable:
        return None


def _parts(piece: bytes, unpack: Unpack) -> list[bytes]:
    """Cut a piece where an event may end, so that what comes before need not wait; a compressed one stays whole."""
    return piece.splitlines(keepends=True) if unpack is plainly else [piece]
