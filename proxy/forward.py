"""Pass one HTTP request through to the legacy and its answer back, as they are, in bounded memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from proxy.exchange import Exchange, Truncated
from proxy.framing import Pairs, Refused, RequestHead, Sender, is_trusted, request_head
from proxy.upstream import Answer, Lost, Upstream, UpstreamError

Scope: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

Refuse: TypeAlias = Callable[[Scope, int, str], tuple[int, Pairs, bytes]]
"""Shapes an answer of our own: (scope, status, sentence) → (status, headers, body)."""


class ClientGone(Exception):
    """The client went away in the middle of its request's body."""


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What the legacy is told of where a request came from.

    Senders in the `trusted` networks (and on Unix sockets) may say it themselves in `X-Forwarded-*`: by default
    those are the private ones, where a load balancer would be. With `tell` False the headers pass as they are.
    """

    tell: bool = True
    trusted: tuple[str, ...] = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")


TOLD = Forwarding()
"""The legacy is told, and senders in private networks are believed."""


def plain_refusal(scope: Scope, status: int, sentence: str) -> tuple[int, Pairs, bytes]:
    """The answer of our own where nobody shapes it better: one line of text."""
    body = sentence.encode() + b"\n"
    return status, [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(body))], body


async def forward(
    scope: Scope,
    receive: Receive,
    send: Send,
    upstream: Upstream,
    *,
    forwarding: Forwarding = TOLD,
    refuse: Refuse = plain_refusal,
) -> None:
    """Pass one request through.

    Bodies stream both ways, each side waiting for the other. A client that goes cancels a safe request; a mutation
    that is all sent runs on, because its outcome counts even when nobody waits for it. What fails before the
    answer's head is told in the shape that `refuse` gives; after it, the client's connection is cut.
    """
    exchange = exchange_of(scope)
    try:
        head = outgoing_head(scope, forwarding)
    except Refused as refusal:
        await refuse_framing(scope, send, refusal, refuse)
        return
    first = await receive()
    if first["type"] == "http.disconnect":
        return
    body: bytes | AsyncIterator[bytes] = first.get("body", b"")
    if first.get("more_body", False):
        body = pieces(first, receive)
    informational = None
    if exchange is not None:
        exchange.cancels = head.safe
        informational = exchange.inform
    try:
        answer = await upstream.request(head, body, informational=informational)
    except UpstreamError as error:
        if not isinstance(error.__cause__, ClientGone):
            await send_whole(send, *refuse(scope, error.status, str(error)))
        return
    await send_answer(send, answer)


async def send_answer(send: Send, answer: Answer) -> None:
    """Send the legacy's answer to the client as it comes; raises `Truncated` when it breaks off."""
    whole = answer.whole
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "reason": answer.reason,
            "headers": answer.headers,
            "body_follows": whole is not None,
        }
    )
    if whole is not None:
        await send({"type": "http.response.body", "body": whole, "trailers": answer.trailers})
        return
    try:
        async for piece in answer:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except Lost as error:
        raise Truncated(str(error)) from error
    finally:
        answer.close()
    await send({"type": "http.response.body", "body": b"", "trailers": answer.trailers})


async def refuse_framing(scope: Scope, send: Send, refusal: Refused, refuse: Refuse) -> None:
    """Refuse a request that could be read in two ways, and read nothing more from its sender.

    Where such a request ends is not sure enough to believe that what follows is another one.
    """
    status, headers, body = refuse(scope, refusal.status, str(refusal))
    await send_whole(send, status, [*headers, (b"Connection", b"close")], body)


async def send_whole(send: Send, status: int, headers: Pairs, body: bytes) -> None:
    """Send an answer that is all here."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def outgoing_head(scope: Scope, forwarding: Forwarding = TOLD) -> RequestHead:
    """Return the head that goes to the legacy for a request; raises `Refused`."""
    exchange = exchange_of(scope)
    if exchange is not None:
        target, headers = exchange.target, exchange.headers
    else:
        query = scope.get("query_string", b"")
        target, headers = scope["raw_path"] + (b"?" + query if query else b""), scope["headers"]
    sender = sender_of(scope["client"], scope["scheme"], forwarding)
    return request_head(scope["method"].encode(), target, headers, sender, version=scope["http_version"].encode())


def sender_of(client: tuple[str, int] | None, scheme: str, forwarding: Forwarding) -> Sender | None:
    """Return what the legacy is told of a client at this address; None when it is told nothing."""
    return _sender(client[0] if client else None, scheme, forwarding.trusted) if forwarding.tell else None


@lru_cache(maxsize=4096)
def _sender(address: str | None, scheme: str, trusted: tuple[str, ...]) -> Sender:
    return Sender(None if address is None else address.encode(), scheme.encode(), is_trusted(address, trusted))


def exchange_of(scope: Scope) -> Exchange | None:
    """Return what our own server knows of the request beyond ASGI, or None under another server."""
    extensions = scope.get("extensions")
    return extensions.get("changeover") if extensions else None


async def pieces(first: dict[str, Any], receive: Receive) -> AsyncIterator[bytes]:
    """Iterate over a request's body beginning with a message already received; raises `ClientGone`."""
    message = first
    while True:
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the client went away while it was sending")
