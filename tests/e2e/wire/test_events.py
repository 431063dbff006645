"""Whatever way a mutation travels, the log says what went in and what came out; what failed is not in it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import pytest

from proxy.trpc.transformers import SUPERJSON, UNDEFINED
from shadow.events import Event
from shadow.json import Json
from shadow.log import Log
from tests.e2e.wire.test_calls import MUTATIONS, RICH, together
from tests.support.node_client import NO_INPUT, Call, Client, Link, NodeClient, Result, mutation, subscription
from tests.support.proxy import ProxyProcess
from tests.support.ways import Ways
from tests.support.wire_servers import ONE_OF_EACH, Wire, WireServer

Proxies = Callable[[Wire], ProxyProcess]
SPOKEN = [call for call in MUTATIONS if call.path != "validMut"]


class Book:
    """The log of the proxy before a server, from where it stood when the test began."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._start = len(self._read())

    def events(self) -> list[Event]:
        return self._read()[self._start :]

    def said(self) -> list[Json]:
        """What the mutations' events say, in a stable order."""
        return in_order([event.draft.data for event in self.events()])

    def _read(self) -> list[Event]:
        log = Log.read_only(self._database)
        try:
            return log.read(("wire:*",), 0, 10_000)
        finally:
            log.release()


def in_order(said: Sequence[Json]) -> list[Json]:
    return sorted(said, key=lambda data: (str(data["procedure"]), repr(data)))


def value(data: Json, meta: Json) -> Json:
    """What an event makes of a value that crossed the pipe to the client in superjson's shape."""
    plain = SUPERJSON.plain({"json": data, **({"meta": meta} if meta else {})})
    return None if plain is UNDEFINED else plain


def expected(calls: Sequence[Call], results: Sequence[Result]) -> list[Json]:
    """What the log has to say, by what the client has seen."""
    return in_order(
        [
            {
                "procedure": call.path,
                "input": None if call.input is NO_INPUT else value(call.input, call.meta),
                "output": value(result.data, result.meta),
            }
            for call, result in zip(calls, results, strict=True)
            if result.error is None
        ]
    )


@pytest.fixture(name="book")
def _book(server: WireServer, proxies: Proxies) -> Book:
    return Book(proxies(server.wire).database)


@pytest.mark.parametrize("server", ONE_OF_EACH, ids=str, indirect=True)
@pytest.mark.parametrize("link", ["httpLink", "httpBatchLink", "httpBatchStreamLink", "wsLink"])
async def test_the_events_say_what_the_client_sent_and_got(
    server: WireServer, ways: Ways, book: Book, node_client: NodeClient, link: Link
) -> None:
    calls = together(*SPOKEN, *([RICH] if server.wire.transformer != "none" else []))
    stock = Client(ways.proxied, link, server.wire.version, server.wire.transformer)
    run = await node_client.run(stock, *calls)
    assert book.said() == expected(calls, run.results)
    assert len(book.said()) == len(calls) - 4


@pytest.mark.parametrize("server", [Wire(11, "standalone")], ids=str, indirect=True)
async def test_a_generators_event_tells_all_that_it_made(ways: Ways, book: Book, node_client: NodeClient) -> None:
    calls = together(mutation("generatorMut", {"steps": 2}), mutation("failingGeneratorMut", 1))
    await node_client.run(Client(ways.proxied, "httpBatchStreamLink"), *calls)
    made: Json = {"$stream": [{"step": 1}, {"step": 2}], "end": ["return", {"done": True}]}
    assert book.said() == [{"procedure": "generatorMut", "input": {"steps": 2}, "output": made}]


@pytest.mark.parametrize("server", [Wire(11, "standalone")], ids=str, indirect=True)
async def test_forms_and_bytes_are_told_by_type_and_size(ways: Ways, book: Book, node_client: NodeClient) -> None:
    octets = {"base64": base64.b64encode(b"\0" * 3000).decode()}
    form = {"form": {"title": "T", "photo": {"name": "p.png", **octets}}}
    await node_client.run(
        Client(ways.proxied, "httpLink"), mutation("octetMut", file=octets), mutation("formMut", file=form)
    )
    inputs = {data["procedure"]: data["input"] for data in book.said()}
    assert inputs["octetMut"] == {"contentType": "application/octet-stream", "size": 3000}
    assert inputs["formMut"]["contentType"] == "multipart/form-data"
    assert inputs["formMut"]["size"] > 3000


@pytest.mark.parametrize(
    ("server", "link"),
    [(Wire(11, "standalone"), "splitLink"), (Wire(11, "fetch", "superjson"), "splitLink")]
    + [(Wire(version, "standalone"), "wsLink") for version in (10, 11)],
    ids=str,
    indirect=["server"],
)
async def test_a_tap_turns_the_items_of_a_subscription_into_events(
    server: WireServer, ways: Ways, book: Book, node_client: NodeClient, link: Link
) -> None:
    stock = Client(ways.proxied, link, server.wire.version, server.wire.transformer)
    run = await node_client.run(stock, subscription("ticks", {"count": 4}))
    assert run.results[0].ended == "complete"
    assert [event.draft.data for event in book.events()] == [{"n": n} for n in range(1, 5)]
    assert {event.draft.cause for event in book.events()} == {"tap:ticks"}
