"""A stock client cannot tell the proxy from the server: every outcome of a call, over every link and transformer."""

from __future__ import annotations

import base64

import pytest

from tests.support.node_client import Call, Client, Link, NodeClient, mutation, query, subscription
from tests.support.ways import Ways, same_for_a_client
from tests.support.wire_servers import MATRIX, Wire, WireServer

QUERIES = (
    query("hello"),
    query("echo", {"text": "a+b c%20d é😀 \u2028", "list": [1, None]}),
    query("echo", None),
    query("nothing"),
    query("plain"),
    query("rich"),
    query("failing", {"code": "NOT_FOUND"}),
    query("no.such.procedure"),
)
MUTATIONS = (
    mutation("voidMut"),
    mutation("voidMut", None),
    mutation("nullMut", {"a": 1}),
    mutation("falseMut"),
    mutation("echoMut", {"b": 2, "a": [1, {"deep": "é😀"}]}),
    mutation("echoMut", "only text"),
    mutation("failMut", {"code": "FORBIDDEN"}),
    mutation("failMut"),
    mutation("throwMut"),
    mutation("validMut", {"title": "T", "unknown": True}),
    mutation("validMut", {"title": ""}),
    mutation("slowMut", {"ms": 5}),
    mutation("cookies"),
    mutation("post.comment.add", {"text": "nested"}),
    mutation("no.such.procedure", 1),
)
RICH = mutation(
    "richMut",
    {
        "when": "1970-01-01T00:00:00.000Z",
        "big": "12345678901234567890",
        "none": None,
        "set": [1, 2],
        "map": [["k", "v"]],
    },
    meta={
        "values": {"when": ["Date"], "big": ["bigint"], "none": ["undefined"], "set": ["set"], "map": ["map"]},
        "v": 1,
    },
)
HTTP_LINKS: tuple[Link, ...] = ("httpLink", "httpBatchLink", "httpBatchStreamLink")


def together(*calls: Call) -> list[Call]:
    """The calls in one tick, which makes a batch of them."""
    return [
        Call(call.type, call.path, call.input, together=index > 0, meta=call.meta) for index, call in enumerate(calls)
    ]


def client(server: WireServer, link: Link) -> Client:
    return Client(server.url, link, server.wire.version, server.wire.transformer)


@pytest.mark.parametrize("link", [*HTTP_LINKS, "wsLink"])
async def test_calls_made_one_after_the_other(
    server: WireServer, ways: Ways, node_client: NodeClient, link: Link
) -> None:
    calls = (*QUERIES, *MUTATIONS, *([RICH] if server.wire.transformer != "none" else []))
    run = await same_for_a_client(node_client, ways, client(server, link), *calls)
    assert sum(result.error is None for result in run.results) == len(calls) - 7
    assert len(run.http) == (0 if link == "wsLink" else len(calls))


@pytest.mark.parametrize("link", [*HTTP_LINKS, "wsLink"])
async def test_calls_made_in_one_tick(server: WireServer, ways: Ways, node_client: NodeClient, link: Link) -> None:
    """Mixed outcomes in one batch: 207, or one stream, or one frame."""
    calls = [*together(*QUERIES), *together(*MUTATIONS)]
    run = await same_for_a_client(node_client, ways, client(server, link), *calls)
    batched = link in {"httpBatchLink", "httpBatchStreamLink"}
    assert len(run.http) == (2 if batched else 0 if link == "wsLink" else len(calls))
    assert {"httpBatchLink": {207}, "httpBatchStreamLink": {200}}.get(link) in (
        None,
        {one.status for one in run.http},
    )


@pytest.mark.parametrize("link", ["httpBatchLink", "httpBatchStreamLink"])
async def test_a_batch_of_one_and_a_batch_that_fails_as_a_whole(
    server: WireServer, ways: Ways, node_client: NodeClient, link: Link
) -> None:
    failing = together(mutation("failMut"), mutation("failMut"))
    run = await same_for_a_client(node_client, ways, client(server, link), mutation("voidMut"), *failing)
    assert [result.error is None for result in run.results] == [True, False, False]


NEW = [wire for wire in MATRIX if wire.version == 11]


@pytest.mark.parametrize("server", NEW, ids=str, indirect=True)
async def test_mutations_that_go_on_after_their_answer_began(
    server: WireServer, ways: Ways, node_client: NodeClient
) -> None:
    calls = together(
        mutation("generatorMut", {"steps": 3}),
        mutation("voidMut"),
        mutation("deferredMut"),
        mutation("failMut"),
    )
    run = await same_for_a_client(node_client, ways, client(server, "httpBatchStreamLink"), *calls)
    assert run.results[0].items == ({"step": 1}, {"step": 2}, {"step": 3})


@pytest.mark.parametrize("server", NEW, ids=str, indirect=True)
async def test_a_streamed_value_over_a_link_that_cannot_stream_fails_after_it_ran(
    server: WireServer, ways: Ways, node_client: NodeClient
) -> None:
    run = await same_for_a_client(node_client, ways, client(server, "httpLink"), mutation("deferredMut"))
    assert run.results[0].error is not None
    assert run.results[0].error.code == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("server", [wire for wire in NEW if wire.transformer == "none"], ids=str, indirect=True)
async def test_forms_and_bytes(server: WireServer, ways: Ways, node_client: NodeClient) -> None:
    blob = base64.b64encode(bytes(range(256)) * 1024).decode()
    run = await same_for_a_client(
        node_client,
        ways,
        client(server, "httpLink"),
        mutation("formMut", file={"form": {"title": "é", "photo": {"name": "p.png", "base64": blob}}}),
        mutation("octetMut", file={"base64": blob}),
    )
    form, octets = run.results
    assert octets.data["size"] == 256 * 1024
    assert form.data == [{"name": "title", "text": "é"}, {"name": "photo", "file": "p.png", **octets.data}]


@pytest.mark.parametrize(
    ("server", "link"),
    [(wire, link) for wire in MATRIX for link in ("splitLink", "wsLink") if wire.version == 11 or link == "wsLink"],
    ids=str,
    indirect=["server"],
)
async def test_subscriptions(server: WireServer, ways: Ways, node_client: NodeClient, link: Link) -> None:
    """Up to their own end, up to the client's, and up to a failure; with and without ids."""
    new = server.wire.version == 11
    calls = [
        subscription("ticks", {"count": 3}),
        subscription("ticks", {}, take=3),
        subscription("failingTicks"),
        *([subscription("untracked"), subscription("ticks", {"count": 5, "lastEventId": "3"})] if new else []),
    ]
    run = await same_for_a_client(node_client, ways, client(server, link), *calls)
    assert [result.ended for result in run.results] == [
        "complete",
        "taken",
        "error",
        *(["complete"] * 2 if new else []),
    ]
    assert [len(result.items) for result in run.results] == [3, 3, 1, *([3, 2] if new else [])]


@pytest.mark.parametrize("server", [Wire(11, "standalone", "superjson")], ids=str, indirect=True)
async def test_each_call_runs_once(server: WireServer, ways: Ways, node_client: NodeClient) -> None:
    """Whatever stands in between sends a mutation on exactly once."""
    stock = client(server, "httpBatchLink")
    before = (await node_client.call(stock, query("ran", "nullMut"))).data
    await same_for_a_client(node_client, ways, stock, mutation("nullMut"))
    after = (await node_client.call(stock, query("ran", "nullMut"))).data
    assert after - before == 2
