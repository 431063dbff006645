"""The overlay over HTTP: Server-Sent Events for subscriptions, JSON and its streamed forms for calls.

A stock client puts everything that it calls at once into one request. When such a batch holds calls of the legacy too,
these travel on as a batch of their own, by the same road as any other request, and both answers are put together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import parse_qs, parse_qsl, quote

from proxy.forward import Receive, Scope, Send, send_whole
from proxy.framing import Pairs
from proxy.roads.json import ClientLeft, TooLarge, whole_body
from proxy.subscriptions.feed import Chunk, Reader
from proxy.subscriptions.overlay import Overlay, Refusal
from proxy.subscriptions.plain import AWAY, RETRY
from proxy.subscriptions.shapes import SseTracked
from proxy.subscriptions.stream import EventStream
from proxy.subscriptions.visibility import Credentials, SubscriberSight
from proxy.subscriptions.wishes import Why
from proxy.trpc import jsontext, sse
from proxy.trpc.errors import ERRORS
from proxy.trpc.inputs import Input, decode_inputs
from proxy.trpc.jsontext import NotJsonError
from proxy.trpc.streams import StreamKind, stream_kind
from proxy.trpc.targets import Calls
from shadow import json
from shadow.events import Cursor
from shadow.json import Json

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_STREAM_HEADERS: Final = frozenset({b"trpc-accept", b"trpc-batch-mode", b"accept", b"accept-encoding"})


@dataclass(frozen=True, slots=True)
class OverlayCalls:
    """Answers requests that call the overlay; `rest` takes what is the legacy's in a mixed batch."""

    overlay: Overlay
    max_body: int

    def wants(self, scope: Scope) -> bool:
        """Tell cheaply whether a request could be for the overlay; most are not."""
        return self.overlay.prefix.encode() in scope["raw_path"] and scope["method"] in ("GET", "POST")

    def takes(self, target: Calls) -> bool:
        """Tell whether one of the calls is the overlay's."""
        return any(self.overlay.kind(path) for path in target.paths)

    async def answer(self, scope: Scope, receive: Receive, send: Send, target: Calls, rest: App) -> None:
        """Answer a request that `takes` is true of."""
        params = _connection_params(scope["query_string"])
        sight = self.overlay.sight(Credentials.of(scope["headers"], params))
        if self.overlay.kind(target.paths[0]) == "subscription" and not target.batch:
            await self._subscribe(scope, receive, send, target, sight)
            return
        try:
            body = await whole_body(receive, self.max_body)
        except ClientLeft:
            return
        except TooLarge:
            await _json(send, 413, {"error": "the batch is too large"})
            return
        await self._calls(scope, send, target, body, sight, rest)

    # --- subscriptions -----------------------------------------------------------------------------------------

    async def _subscribe(
        self, scope: Scope, receive: Receive, send: Send, target: Calls, sight: SubscriberSight
    ) -> None:
        (path,) = target.paths
        outlet = TrpcStream(EventStream(scope, receive, send), self.overlay, path)
        await outlet.open()
        try:
            if scope["method"] != "GET":
                raise Refusal("METHOD_NOT_SUPPORTED", "a subscription is asked for with GET")
            (given,) = decode_inputs(target, "GET", b"", self.overlay.transformer)
            resumed = _last_event_id(scope)
            wish = await self.overlay.wish(path, given, sight, last_event_id=resumed)
            await self.overlay.feed.read(wish, sight, outlet, outlet.attach)
        except Refusal as refusal:
            await outlet.refuse(refusal)
        finally:
            await outlet.close()

    # --- queries and mutations ---------------------------------------------------------------------------------

    async def _calls(
        self, scope: Scope, send: Send, target: Calls, body: bytes, sight: SubscriberSight, rest: App
    ) -> None:
        inputs = decode_inputs(target, scope["method"], body, self.overlay.transformer)
        ours = [index for index, path in enumerate(target.paths) if self.overlay.kind(path)]
        theirs = [index for index in range(len(target.paths)) if index not in ours]
        async with asyncio.TaskGroup() as group:
            answers = {
                index: group.create_task(self._call(scope["method"], target.paths[index], inputs[index], sight))
                for index in ours
            }
            legacy = group.create_task(_ask_rest(scope, target, body, theirs, rest)) if theirs else None
        envelopes: list[Json] = [None] * len(target.paths)
        statuses: list[int] = []
        for index, task in answers.items():
            status, envelopes[index] = task.result()
            statuses.append(status)
        headers: Pairs = []
        if legacy is not None:
            status, headers, found = legacy.result()
            statuses.append(status)
            for place, index in enumerate(theirs):
                envelopes[index] = found[place] if isinstance(found, list) and place < len(found) else found
        await self._send(scope, send, target, envelopes, statuses, headers)

    async def _call(self, method: str, path: str, given: Input, sight: SubscriberSight) -> tuple[int, Json]:
        """Return the status and the envelope of one call."""
        encode = self.overlay.transformer.encode
        try:
            if self.overlay.kind(path) == "mutation" and method != "POST":
                raise Refusal("METHOD_NOT_SUPPORTED", f"{path} is a mutation: send it with POST")
            return 200, {"result": {"data": encode(await self.overlay.call(path, given, sight))}}
        except Refusal as refusal:
            return ERRORS[refusal.code].status, {"error": encode(refusal.shape(path))}

    async def _send(
        self, scope: Scope, send: Send, target: Calls, envelopes: list[Json], statuses: Sequence[int], headers: Pairs
    ) -> None:
        kind = stream_kind(scope["headers"]) if target.batch else None
        status = statuses[0] if len(set(statuses)) == 1 else 207
        vary = [(b"vary", b"trpc-accept, accept")]
        if kind is StreamKind.JSON_LINES:
            flat = {str(index): [[self._raw(envelope)]] for index, envelope in enumerate(envelopes)}
            line = json.encode(self.overlay.transformer.encode(flat))
            await _send(send, 200, headers + vary, line + b"\n")
        elif kind is not None:
            lines = [b'"%d":%b\n' % (index, json.encode(envelope)) for index, envelope in enumerate(envelopes)]
            await _send(send, 200, headers + vary, b"{" + b",".join(lines) + b"}\n")
        else:
            await _send(send, status, headers, json.encode(envelopes if target.batch else envelopes[0]))

    def _raw(self, envelope: Json) -> Json:
        """Take an envelope out of the transformer: in JSON Lines the whole line goes through it once."""
        plain = self.overlay.transformer.plain
        if isinstance(envelope, dict) and "error" in envelope:
            return {"error": plain(envelope["error"])}
        result = envelope.get("result", {}) if isinstance(envelope, dict) else {}
        return {"result": {"data": plain(result["data"])} if "data" in result else {}}


class TrpcStream:
    """A reader with the stock httpSubscriptionLink."""

    def __init__(self, stream: EventStream, overlay: Overlay, path: str) -> None:
        self.format = SseTracked(overlay.feed.epoch, overlay.transformer)
        self._stream = stream
        self._overlay = overlay
        self._path = path

    async def open(self) -> None:
        """Send the head."""
        await self._stream.open()

    def attach(self, reader: Reader) -> None:
        """Let the reader know when the client leaves."""
        self._stream.watch(reader.leave)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._stream.close()

    async def hello(self, cursor: Cursor) -> None:
        """Say that the subscription has started. The id makes a client that saw nothing yet come back to here."""
        await self._stream.write(sse.encode_event("{}", event="connected", event_id=str(cursor), retry=RETRY))

    def push(self, chunk: Chunk) -> bool:
        """Send items, if that can be done at once."""
        return self._stream.push(chunk.data)

    async def write(self, chunk: Chunk) -> None:
        """Send items."""
        await self._stream.write(chunk.data)

    async def ping(self, cursor: Cursor) -> None:
        """Show life."""
        await self._stream.write(sse.PING)

    async def reset(self, why: Why, cursor: Cursor) -> None:
        """Tell the client to load the state again, with an item: stock clients see nothing else."""
        item = sse.item(self._overlay.reset(why, cursor), event_id=str(cursor), transformer=self._overlay.transformer)
        await self._stream.write(item)

    async def cut(self, cursor: Cursor) -> None:
        """Tell the client that it was too slow; a stock one passes over this, and comes back by itself."""
        told = json.encode({"reason": "slow", "cursor": str(cursor)}).decode()
        await self._stream.last(sse.encode_event(told, event="cut"))

    async def unavailable(self, sentence: str, cursor: Cursor) -> None:
        """Fail in the one way after which a stock client comes back."""
        await self._fail("INTERNAL_SERVER_ERROR", sentence, {}, retry=AWAY)

    async def refuse(self, refusal: Refusal) -> None:
        """Fail; after most codes a stock client does not come back."""
        again = ERRORS[refusal.code].number == ERRORS["INTERNAL_SERVER_ERROR"].number
        await self._fail(refusal.code, str(refusal), refusal.facts, retry=AWAY if again else None)

    async def finish(self) -> None:
        """End without saying that it is the end: the client comes back."""
        await self._stream.end()

    async def _fail(self, code: str, sentence: str, facts: dict[str, Json], *, retry: int | None) -> None:
        shape = self._overlay.transformer.encode(Refusal(code, sentence, facts).shape(self._path))
        text = json.encode(shape).decode()
        await self._stream.end(sse.encode_event(text, event="serialized-error", retry=retry))


async def _ask_rest(
    scope: Scope, target: Calls, body: bytes, theirs: Sequence[int], rest: App
) -> tuple[int, Pairs, Json]:
    """Let the legacy's calls of a batch go their way; returns the answer's status, headers and envelopes."""
    path = ",".join(target.paths[index] for index in theirs)
    base = scope["raw_path"].rpartition(b"/")[0]
    query = [(name, value) for name, value in _pairs(scope) if name not in ("batch", "input")]
    text = target.query_input if scope["method"] == "GET" else body.decode("utf-8", "replace")
    picked = json.encode(_picked(text, theirs))
    if scope["method"] == "GET":
        query.append(("input", picked.decode()))
        picked = b""
    query.insert(0, ("batch", "1"))
    raw_path = base + b"/" + quote(path, safe=",.").encode()
    headers = [pair for pair in scope["headers"] if pair[0] not in _STREAM_HEADERS | {b"content-length"}]
    if scope["method"] == "POST":
        headers.append((b"content-length", b"%d" % len(picked)))
    inner = {
        **scope,
        "raw_path": raw_path,
        "path": raw_path.decode("latin-1"),
        "query_string": "&".join(f"{quote(name)}={quote(value, safe='')}" for name, value in query).encode(),
        "headers": headers,
        "extensions": {},
    }
    messages: list[Json] = []
    given = [{"type": "http.request", "body": picked, "more_body": False}]

    async def receive() -> dict[str, Json]:
        if given:
            return given.pop()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return] # waits for ever

    async def send(message: dict[str, Json]) -> None:
        messages.append(message)

    await rest(inner, receive, send)
    start = next(message for message in messages if message["type"] == "http.response.start")
    whole = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    kept = [pair for pair in start["headers"] if pair[0].lower() not in (b"content-length", b"content-type")]
    try:
        found = jsontext.parse(whole)
    except NotJsonError:
        found = {"error": Refusal("BAD_GATEWAY", "the API's answer to its part of this batch is not JSON").shape(path)}
    return start["status"], kept, found


def _picked(text: str | None, indexes: Sequence[int]) -> dict[str, Json]:
    try:
        inputs = jsontext.parse(text) if text else {}
    except NotJsonError:
        inputs = {}
    if not isinstance(inputs, dict):
        return {}
    return {str(place): inputs[str(index)] for place, index in enumerate(indexes) if str(index) in inputs}


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _last_event_id(scope: Scope) -> str | None:
    """Return what the client resumes with: the header, or what it put into the address."""
    header = next((value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"last-event-id"), "")
    if header:
        return header
    query = parse_qs(scope["query_string"].decode("latin-1"))
    found = query.get("lastEventId") or query.get("Last-Event-Id")
    return found[0] if found else None


def _connection_params(query: bytes) -> Json:
    text = parse_qs(query.decode("latin-1")).get("connectionParams", [""])[0]
    try:
        return json.decode(text) if text else None
    except json.JsonError:
        return None


async def _json(send: Send, status: int, body: Json) -> None:
    await _send(send, status, [], json.encode(body))


async def _send(send: Send, status: int, headers: Pairs, data: bytes) -> None:
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send_whole(send, status, own + headers, data)
