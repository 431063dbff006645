"""The legacy's state, read as any client could read it: through its own queries.

Nothing here knows the log. Reading is paced (`Pace`), survives a legacy that is busy for a while, holds one page in
memory at a time, and notices entities that a cursor steps over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import httpx

from reconcile.answers import Answer, Answered, Busy, PlainWire, Refused, Wire, read_answer
from reconcile.compare import Fields
from reconcile.cursors import Edge, moved
from reconcile.errors import LegacyUnreachable, QueryFailed, QueryRefused, ReconcileError
from reconcile.pace import Limits, Pace, pause
from reconcile.road import ClientRoad, Received, Road, StraightRoad, trust
from shadow import json
from shadow.contract import ExpressionError
from shadow.json import Json

ATTEMPTS: Final = 6
UNESCAPED: Final = "!'()*~"
"""What JavaScript's encodeURIComponent leaves alone beyond letters, digits, `-`, `_` and `.`."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How a contract reads all entities of a kind, page by page."""

    query: str
    input: Callable[[Json], Json]
    """From the cursor (None for the first page) to the query's input."""
    items: Callable[[Json], Sequence[Any]]
    cursor: Callable[[Json], Json]
    """From an output to the next page's cursor; None ends the list."""
    partial: bool = False
    """Its items lack fields that the single read has, so they prove nothing."""


@dataclass(frozen=True, slots=True)
class Single:
    """How a contract reads one entity."""

    query: str
    input: Callable[[str], Json]
    item: Callable[[Json, str], Any]
    """From an output and the key to the item; None when there is none."""


@dataclass(frozen=True, slots=True)
class EntityKind:
    """How one kind of entity is read. What an item is, is between these functions."""

    name: str
    key_of: Callable[[Any], str]
    fields_of: Callable[[Any], Fields]
    listing: Listing | None
    single: Single | None

    def shown_key(self, item: Any) -> str | None:
        """Return the key that a single read's item shows, None when it shows none."""
        try:
            return self.key_of(item)
        except ExpressionError:
            return None

    @property
    def readable(self) -> bool:
        """Tell whether there is any way to read it."""
        return self.listing is not None or self.single is not None


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of a list as the legacy showed it: items by key, and the cursor of the next page."""

    items: Mapping[str, Any]
    cursor: Json


@dataclass(slots=True)
class Traversal:
    """What was learnt while listing one kind."""

    seen: set[str] = field(default_factory=set)
    """The keys so far."""
    pages: int = 0
    edge: Edge | None = None
    """How the page edges can be repeated, once known."""
    stuck: bool = False
    """More entities than fit on a page share one cursor value: those not listed can only be reached by their keys."""


@asynccontextmanager
async def open_legacy(
    url: str,
    *,
    wire: Wire | None = None,
    limits: Limits | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncIterator[Legacy]:
    """Open a legacy at `url`, base path included, for the length of a block. `timeout` is in seconds per answer."""
    pace = Pace(limits or Limits(), clock=time.monotonic, sleep=sleep)
    connections = httpx.Limits(max_connections=(limits or Limits()).concurrency + 1)
    context = trust(url)
    # Proxies named in the environment are for the internet; the legacy is a neighbour.
    async with (
        httpx.AsyncClient(
            headers=headers, timeout=timeout, limits=connections, verify=context, trust_env=False
        ) as client,
        StraightRoad(client, url.rstrip("/"), limits=connections, ssl_context=context) as road,
    ):
        yield Legacy(client, url, wire=wire or PlainWire(), pace=pace, road=road)


class Legacy:
    """Reads one legacy. Raises `LegacyUnreachable`, `QueryRefused` or `QueryFailed`, never httpx's own errors."""

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, wire: Wire, pace: Pace, road: Road | None = None
    ) -> None:
        """Without a `road` the client sends queries too."""
        self._client = client
        self._url = url.rstrip("/")
        self._road = road or ClientRoad(client, self._url)
        self._wire = wire
        self._pace = pace

    @property
    def requests(self) -> int:
        """How many requests were made so far."""
        return self._pace.requests

    async def reach(self) -> None:
        """Find out at once whether anything answers at all, whatever it says; raises LegacyUnreachable."""
        if await self._get("", "") is None:
            raise self._unreachable()

    async def query(self, procedure: str, input: Json, *, attempts: int = ATTEMPTS) -> Json:  # noqa: A002  tRPC's word
        """Return the output of one query; asks again, ever more slowly, while the legacy is busy or away."""
        text = quote(json.encode(self._wire.encode(input)), safe=UNESCAPED)
        failures = 0
        while True:
            received = await self._get(procedure, f"input={text}")
            answer = _read(received, self._wire)
            if isinstance(answer, Answered):
                return answer.output
            if isinstance(answer, Refused):
                raise _refusal(procedure, answer)
            failures += 1
            if failures >= attempts:
                raise self._failure(procedure, answer, failures, answered=received is not None)
            self._pace.leave_alone(pause(failures, received.retry_after if received else None))

    async def mutate(self, procedure: str, input: Json) -> Answer:  # noqa: A002  tRPC's word
        """Send one mutation, once; returns what the legacy said, Busy when nobody knows what became of it."""
        async with self._pace.turn():
            try:
                response = await self._client.post(
                    f"{self._url}/{procedure}",
                    content=json.encode(self._wire.encode(input)),
                    headers={"content-type": "application/json"},
                )
            except httpx.HTTPError:
                return Busy("no answer")
        return read_answer(response.status_code, response.content, self._wire)

    async def one(self, kind: EntityKind, key: str) -> Fields | None:
        """Return the fields of one entity through the kind's single read, None when the legacy has no such entity."""
        single = kind.single
        assert single is not None
        try:
            output = await self.query(single.query, single.input(key))
        except QueryRefused as refusal:
            if refusal.error == "NOT_FOUND":
                return None
            raise
        item = single.item(output, key)
        # Some queries show the same thing whatever they are asked for: a setting of which there is only one.
        return None if item is None or kind.shown_key(item) not in (None, key) else kind.fields_of(item)

    async def pages(self, kind: EntityKind, traversal: Traversal) -> AsyncIterator[Mapping[str, Fields]]:
        """Yield the list of a kind page by page, as fields by key; each key once, as it first appeared."""
        listing = kind.listing
        assert listing is not None
        shown: Shown | None = await self._shown(kind, listing, None)
        while shown is not None:
            traversal.pages += 1
            fresh = {key: kind.fields_of(item) for key, item in shown.items.items() if key not in traversal.seen}
            traversal.seen.update(fresh)
            yield fresh
            shown = None if shown.cursor is None else await self._following(kind, listing, shown, traversal)

    async def _shown(self, kind: EntityKind, listing: Listing, cursor: Json) -> Shown:
        output = await self.query(listing.query, listing.input(cursor))
        return Shown({kind.key_of(item): item for item in listing.items(output)}, listing.cursor(output))

    async def _following(self, kind: EntityKind, listing: Listing, last: Shown, traversal: Traversal) -> Shown | None:
        """Read on after the last page, from a moved cursor that repeats the edge if there is one.

        A page that begins with known entities leaves nothing out between them and what follows.
        """
        for edge in (Edge.UP, Edge.DOWN) if traversal.edge is None else (traversal.edge,):
            repeating = moved(last.cursor, edge)
            if repeating is None:
                continue
            shown = await self._shown(kind, listing, repeating)
            if shown.items.keys().isdisjoint(last.items):
                continue
            traversal.edge = edge
            if not shown.items.keys() <= traversal.seen:
                return shown
            if shown.cursor is None:
                return None
            # A whole page of known entities, and more to come: one cursor value is shared by more than a page.
            traversal.stuck = True
            break
        else:
            if traversal.pages >= 3 and traversal.edge is None:
                traversal.edge = Edge.NONE
        shown = await self._shown(kind, listing, last.cursor)
        nothing_new = shown.items.keys() <= traversal.seen
        return None if nothing_new and shown.cursor in (None, last.cursor) else shown

    def _failure(self, procedure: str, answer: Busy, failures: int, *, answered: bool) -> ReconcileError:
        if answered:
            return QueryFailed(f"the legacy answered {procedure} with {answer.error}, {failures} time(s) in a row")
        return self._unreachable()

    def _unreachable(self) -> LegacyUnreachable:
        return LegacyUnreachable(f"the legacy does not answer at {self._url}: is it running, is the address right?")

    async def _get(self, procedure: str, query: str) -> Received | None:
        async with self._pace.turn():
            return await self._road.get(procedure, query)


def _read(received: Received | None, wire: Wire) -> Answer:
    return Busy("no answer") if received is None else read_answer(received.status, received.body, wire)


def _refusal(procedure: str, answer: Refused) -> QueryRefused:
    if answer.unknown_procedure:
        advice = "it has no such query: correct the contract, or the legacy's base path"
    elif answer.error in {"UNAUTHORIZED", "FORBIDDEN", "HTTP 401", "HTTP 403"}:
        advice = "give a token that may read it (--token)"
    elif answer.error == "UNREADABLE":
        advice = "its answer is not written as the contract's `transformer` says"
    elif answer.error == "BAD_REQUEST":
        advice = "it does not accept the input that the contract's `input` expression makes"
    else:
        advice = "try the query by hand with the same input"
    error = "NO_PROCEDURE" if answer.unknown_procedure else answer.error
    return QueryRefused(f"the legacy refused {procedure} with {answer.error}: {advice}", procedure, error)
