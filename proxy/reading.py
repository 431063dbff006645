"""The proxy's own reads of the legacy: single entities and whole lists, through the contract's queries.

Only the resolver of doubts reads so, a few times a minute at most, and under the lock of what it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import quote

from proxy.framing import Pairs, RequestHead
from proxy.trpc.envelopes import Failure, Success, decode_answer
from proxy.trpc.transformers import UNDEFINED, Transformer
from proxy.upstream import Lost, Upstream, UpstreamError
from shadow import json
from shadow.contract import Entity
from shadow.json import Json

UNESCAPED = "!'()*~"
"""What JavaScript's encodeURIComponent leaves alone beyond letters, digits, `-`, `_` and `.`."""

MOST_PAGES = 10_000
"""A list that is longer goes in a circle."""

_BIGGEST = 64 * 1024 * 1024
_ASK_AGAIN = {"TIMEOUT", "TOO_MANY_REQUESTS", "CLIENT_CLOSED_REQUEST", "UNKNOWN"}


class LegacyAway(Exception):
    """The legacy did not answer, or not now; asking again later may help. `answered` tells that it said so itself."""

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


class ReadRefused(Exception):
    """The legacy refuses the query, and would again; the message is its error's code."""


@dataclass(frozen=True, slots=True)
class Found:
    """One entity as the legacy shows it: its fields, and the whole item that they were read from."""

    key: str
    fields: dict[str, Json]
    item: Json


class LegacyReader:
    """Asks queries; every method raises `LegacyAway` and `ReadRefused`, and the contract's `ExpressionError`."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        base_path: str,
        transformer: Transformer,
        token: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._upstream = upstream
        self._base = base_path.strip("/")
        self._transformer = transformer
        self._timeout = timeout
        self._headers: Pairs = [
            (b"Host", str(upstream.address).encode() if upstream.address.path is None else b"localhost"),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
        ]
        if token is not None:
            self._headers.append((b"Authorization", b"Bearer " + token.encode()))

    async def one(self, entity: Entity, key: str) -> Found | None:
        """Return an entity, None when the legacy has none of this key; needs `entity.get` or `entity.list`."""
        if entity.get is None:
            return await self._listed(entity, key)
        try:
            output = await self.query(entity.get.query, entity.get.input_for(key))
        except ReadRefused as refusal:
            if str(refusal) == "NOT_FOUND":
                return None
            raise
        item = entity.get.item_of(output, key)
        return None if item is None else Found(key, entity.fields_of(item, key), item)

    async def all(self, entity: Entity) -> AsyncIterator[Found]:
        """Yield every entity of a kind; needs `entity.list`."""
        listing = entity.list
        assert listing is not None
        seen: set[str] = set()
        cursor: Json = None
        for _ in range(MOST_PAGES):
            output = await self.query(listing.query, listing.input_for(cursor))
            for name, value in listing.items_of(output):
                key = entity.key_of(value, name)
                if key not in seen:
                    seen.add(key)
                    yield Found(key, entity.fields_of(value, name), value)
            following = listing.cursor_after(output)
            if following is None or following == cursor:
                return
            cursor = following

    async def query(self, procedure: str, input: Json) -> Json:  # noqa: A002 - tRPC's word
        """Return the output of one query; a void one is None."""
        wire = self._transformer.encode(input)
        text = "" if wire is UNDEFINED else "?input=" + quote(json.encode(wire), safe=UNESCAPED)
        target = "/".join(part for part in ("", self._base, procedure) if part or not procedure)
        head = RequestHead(b"GET", f"/{target.lstrip('/')}{text}".encode(), self._headers)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._upstream.request(head, b"")
                body = await answer.read() if answer.whole is None else answer.whole
        except TimeoutError:
            raise LegacyAway("the legacy did not answer in time") from None
        except (UpstreamError, Lost) as error:
            raise LegacyAway(str(error)) from None
        (outcome,) = decode_answer(1, answer.status, body, self._transformer)
        match outcome:
            case Success(data=data):
                return None if data is UNDEFINED else data
            case Failure(code=code, proven=True) if code not in _ASK_AGAIN:
                raise ReadRefused(code)
            case Failure(code=code):
                raise LegacyAway(code, answered=True)
        if 400 <= answer.status < 500 and answer.status not in {408, 425, 429}:
            raise ReadRefused(f"HTTP {answer.status}")
        raise LegacyAway(f"HTTP {answer.status}", answered=answer.status < 500)

    async def _listed(self, entity: Entity, key: str) -> Found | None:
        async for found in self.all(entity):
            if found.key == key:
                return found
        return None
