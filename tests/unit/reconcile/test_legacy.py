"""Reading a legacy through its own queries."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.answers import PlainWire
from reconcile.cursors import Edge, moved
from reconcile.errors import LegacyUnreachable, QueryFailed, QueryRefused
from reconcile.legacy import EntityKind, Legacy, Listing, Single, Traversal
from reconcile.pace import Limits, Pace, pause
from shadow.json import Json
from tests.support.memory_legacy import MemoryLegacy


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def reader(
    memory: MemoryLegacy,
    clock: Clock | None = None,
    limits: Limits | None = None,
    client: httpx.AsyncClient | None = None,
) -> Legacy:
    clock = clock or Clock()
    pace = Pace(limits or Limits(), clock=clock, sleep=clock.sleep)
    return Legacy(client or memory.client(), "http://legacy/trpc", wire=PlainWire(), pace=pace)


def notes(limit: int = 3, cursor: str = "nextCursor") -> EntityKind:
    return EntityKind(
        name="note",
        key_of=lambda item: str(item["id"]),
        fields_of=lambda item: {"title": item.get("title")},
        listing=Listing(
            "note.list",
            lambda cursor: {"limit": limit} if cursor is None else {"limit": limit, "cursor": cursor},
            lambda output: output["notes"],
            lambda output: output[cursor],
        ),
        single=Single("note.get", lambda key: {"id": key}, lambda output, _: output),
    )


async def listed(legacy: Legacy, kind: EntityKind) -> tuple[list[str], Traversal]:
    traversal = Traversal()
    found: list[str] = []
    async for page in legacy.pages(kind, traversal):
        found += page
    return found, traversal


@given(st.lists(st.integers(0, 6), max_size=14), st.integers(4, 6))
async def test_a_list_misses_nothing_and_repeats_nothing_even_where_timestamps_are_equal(
    updated: list[int], limit: int
) -> None:
    """As long as a page holds more than the entities that share one timestamp."""
    memory = MemoryLegacy()
    for number, moment in enumerate(updated):
        memory.put(f"n{number}", moment)
    found, traversal = await listed(reader(memory), notes(limit))
    assert len(found) == len(set(found))
    crowded = any(updated.count(moment) >= limit for moment in updated)
    assert set(found) == set(memory.notes) or (crowded and traversal.stuck)


async def test_a_cursor_that_is_no_timestamp_is_left_alone() -> None:
    """An offset moved by one would step over an entity; that no known entity comes back gives it away."""
    memory = MemoryLegacy()
    everything = [f"n{number}" for number in range(10)]

    async def answer(request: httpx.Request) -> httpx.Response:
        from shadow import json

        wanted: Json = json.decode(httpx.QueryParams(request.url.query)["input"])
        start = wanted.get("cursor", 0)
        page = everything[start : start + 3]
        more = start + 3 if start + 3 < len(everything) else None
        data = {"notes": [{"id": key} for key in page], "next": more}
        return httpx.Response(200, content=json.encode({"result": {"data": data}}))

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    found, _ = await listed(reader(memory, client=client), notes(cursor="next"))
    assert found == everything


async def test_a_list_that_gives_the_same_cursor_for_ever_ends() -> None:
    memory = MemoryLegacy()

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"result": {"data": {"notes": [{"id": "a"}], "nextCursor": "x"}}})

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    assert (await listed(reader(memory, client=client), notes()))[0] == ["a"]


async def test_a_busy_legacy_is_left_alone_ever_longer_and_asked_again() -> None:
    memory, clock = MemoryLegacy(statuses=[429, 503, 500]), Clock()
    memory.put("a", title="A")
    assert await reader(memory, clock).one(notes(), "a") == {"title": "A"}
    assert clock.now == pause(1) + pause(2) + pause(3)


async def test_a_wish_to_be_left_alone_is_obeyed_by_everybody() -> None:
    memory, clock = MemoryLegacy(statuses=[429], retry_after="20"), Clock()
    memory.put("a", title="A")
    await reader(memory, clock).one(notes(), "a")
    assert clock.now == 20


async def test_a_legacy_that_stays_busy_is_given_up() -> None:
    memory = MemoryLegacy(statuses=[500] * 20)
    with pytest.raises(QueryFailed, match=r"note\.get with HTTP 500"):
        await reader(memory).one(notes(), "a")


async def test_no_answer_at_all_says_so() -> None:
    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = httpx.AsyncClient(transport=httpx.MockTransport(refuse))
    with pytest.raises(LegacyUnreachable, match="is it running"):
        await reader(MemoryLegacy(), client=client).one(notes(), "a")
    clock = Clock()
    with pytest.raises(LegacyUnreachable, match="is it running"):
        await reader(MemoryLegacy(), clock, client=client).reach()
    assert clock.now == 0, "at the start nobody waits for it"


async def test_an_unknown_entity_is_none_and_an_unknown_query_an_error() -> None:
    memory = MemoryLegacy()
    assert await reader(memory).one(notes(), "nobody") is None
    with pytest.raises(QueryRefused, match="it has no such query"):
        await reader(memory).query("note.nothing", {})


async def test_requests_keep_their_distance() -> None:
    memory, clock = MemoryLegacy(), Clock()
    legacy = reader(memory, clock, Limits(rate=10, concurrency=2))
    for _ in range(11):
        await legacy.query("note.all", {})
    assert clock.now == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("cursor", "edge", "expected"),
    [
        (5, Edge.UP, 6),
        (5, Edge.DOWN, 4),
        (1.5, Edge.UP, 2.5),
        ("2026-01-01T00:00:00.000Z", Edge.UP, "2026-01-01T00:00:00.001Z"),
        ("2026-01-01 00:00:00", Edge.DOWN, "2025-12-31 23:59:59.999"),
        ("k3f9a", Edge.UP, None),
        ("20260101", Edge.UP, None),
        (True, Edge.UP, None),
        ({"id": 1}, Edge.UP, None),
        (5, Edge.NONE, None),
    ],
)
def test_a_cursor_moves_by_its_own_unit(cursor: Json, edge: Edge, expected: Json) -> None:
    assert moved(cursor, edge) == expected


async def test_a_query_that_shows_another_entity_shows_none() -> None:
    """A setting of which there is only one is shown whatever key is asked for."""
    memory = MemoryLegacy()
    memory.put("a", title="A")
    single = Single("note.get", lambda _: {"id": "a"}, lambda output, _: output)
    kind = replace(notes(), single=single)
    assert await reader(memory).one(kind, "a") == {"title": "A"}
    assert await reader(memory).one(kind, "b") is None
