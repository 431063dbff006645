"""The example legacy behaves as its users know it: the real client reads and writes it directly."""

from __future__ import annotations

from pathlib import Path

import pytest

from shadow.json import Json
from tests.support.legacy import Legacy, running_legacy
from tests.support.node_client import Client, Link, NodeClient, Transformer, mutation, query, subscription


async def create(node: NodeClient, client: Client) -> Json:
    result = await node.call(client, mutation("session.create", {"provider": "openai", "model": "gpt-5"}))
    assert result.error is None
    return result.data


@pytest.mark.parametrize("link", ["httpLink", "httpBatchLink", "httpBatchStreamLink", "wsLink"])
async def test_a_session_lives_and_dies_over_every_link(legacy: Legacy, node_client: NodeClient, link: Link) -> None:
    client = Client(legacy.url, link)
    session = await create(node_client, client)
    key = {"sessionId": session["id"]}

    run = await node_client.run(
        client,
        mutation("session.updateTitle", {**key, "title": "Plans"}),
        mutation("session.updateModel", {**key, "model": "o5"}),
        mutation("session.updateRules", {**key, "enabledRuleIds": ["concise"]}),
        query("session.getById", key),
        query("session.search", {"query": "lan"}),
        query("session.getCount"),
        mutation("session.delete", key),
        query("session.getById", key),
    )

    title, model, rules, read, found, count, deleted, gone = run.results
    assert all(void.undefined and void.error is None for void in (title, model, rules, deleted))
    assert read.data == {
        **session,
        "title": "Plans",
        "model": "o5",
        "enabledRuleIds": ["concise"],
        "updated": read.data["updated"],
    }
    assert [line["id"] for line in found.data["sessions"]] == [session["id"]]
    assert "enabledRuleIds" not in found.data["sessions"][0]
    assert count.data == 1
    assert gone.data is None
    assert not gone.undefined


@pytest.mark.parametrize("adapter", ["standalone", "express"])
@pytest.mark.parametrize("transformer", ["superjson", "devalue"])
async def test_every_adapter_speaks_every_transformer(
    tmp_path: Path, node_client: NodeClient, adapter: str, transformer: Transformer
) -> None:
    async with running_legacy(tmp_path, "--adapter", adapter, "--transformer", transformer) as legacy:
        client = Client(legacy.url, transformer=transformer)
        session = await create(node_client, client)
        assert (await node_client.call(client, query("session.getById", {"sessionId": session["id"]}))).data == session
        voided = await node_client.call(client, mutation("session.delete", {"sessionId": session["id"]}))
        assert voided.undefined


async def test_members_of_a_batch_go_in_one_request(legacy: Legacy, node_client: NodeClient) -> None:
    run = await node_client.run(
        Client(legacy.url),
        mutation("session.updateTitle", {"sessionId": "nobody", "title": "x"}),
        mutation("rules.toggle", {"ruleId": "explain", "enabled": True}, together=True),
        mutation("rules.toggle", {"ruleId": "no such rule", "enabled": True}, together=True),
    )
    assert len(run.http) == 1
    assert [result.data for result in run.results] == [
        None,
        {"success": True},
        {"success": False, "error": "There is no rule no such rule"},
    ]
    assert {row.procedure for row in legacy.audit()} == {"session.updateTitle", "rules.toggle"}


async def test_keys_of_known_providers_are_masked_on_the_way_out(legacy: Legacy, node_client: NodeClient) -> None:
    run = await node_client.run(
        Client(legacy.url),
        mutation("config.updateProviderConfig", {"providerId": "openai", "config": {"apiKey": "sk-abcdefgh", "x": 1}}),
        mutation("config.updateProviderConfig", {"providerId": "homemade", "config": {"apiKey": "sk-abcdefgh"}}),
        mutation("config.removeProvider", {"providerId": "absent"}),
        query("config.load", {}),
    )
    assert [result.data for result in run.results[:3]] == [{"success": True}] * 3
    assert run.results[3].data["config"]["providers"] == {
        "openai": {"apiKey": "sk-abcd***"},
        "homemade": {"apiKey": "sk-abcdefgh"},
    }
    assert legacy.settings()["providers"]["openai"] == {"apiKey": "sk-abcdefgh"}


async def test_parallel_changes_of_the_settings_are_lost(tmp_path: Path, node_client: NodeClient) -> None:
    """The legacy reads, changes and writes its file without a lock: everybody hears of success all the same."""
    async with running_legacy(tmp_path, "--jitter", "20") as legacy:
        changes = [
            mutation("config.updateProviderConfig", {"providerId": f"p{n}", "config": {}}, together=True)
            for n in range(30)
        ]
        run = await node_client.run(Client(legacy.url, "httpLink"), *changes)
        assert all(result.data == {"success": True} for result in run.results)
        assert len(legacy.audit()) == 30
        assert 0 < len(legacy.settings()["providers"]) < 30


async def test_a_message_without_a_session_makes_one(legacy: Legacy, node_client: NodeClient) -> None:
    client = Client(legacy.url)
    added = await node_client.call(
        client, mutation("message.add", {"sessionId": None, "provider": "p", "model": "m", "content": "Hello"})
    )
    messages = await node_client.call(client, query("message.getBySession", {"sessionId": added.data["sessionId"]}))
    assert [(one["id"], one["content"]) for one in messages.data] == [(added.data["messageId"], "Hello")]
    assert [(row.entity, row.key) for row in legacy.audit()] == [
        ("session", added.data["sessionId"]),
        ("message", added.data["messageId"]),
    ]


@pytest.mark.parametrize("link", ["splitLink", "wsLink"])
async def test_a_streamed_answer_makes_a_session_and_its_title(
    legacy: Legacy, node_client: NodeClient, link: Link
) -> None:
    client = Client(legacy.url, link)
    run = await node_client.run(
        client,
        subscription("message.streamResponse", {"provider": "p", "model": "m", "content": "Plan my week"}),
        query("session.getRecent", {}),
    )
    stream, recent = run.results
    kinds = [item["type"] for item in stream.items]
    assert stream.ended == "complete"
    assert kinds[:3] == ["session-created", "user-message-created", "assistant-message-created"]
    assert kinds[3:-3] == ["text-delta"] * (len(kinds) - 6)
    assert kinds[-3:] == ["text-end", "title-delta", "title-complete"]
    assert [session["title"] for session in recent.data["sessions"]] == ["Plan my week"]


async def test_mutations_need_the_token(tmp_path: Path, node_client: NodeClient) -> None:
    async with running_legacy(tmp_path, "--token", "sesame") as legacy:
        call = mutation("session.delete", {"sessionId": "x"})
        refused = await node_client.call(Client(legacy.url), call)
        assert refused.error is not None
        assert refused.error.code == "UNAUTHORIZED"
        assert "stack" in refused.error.data
        allowed = await node_client.call(Client(legacy.url, headers={"authorization": "Bearer sesame"}), call)
        assert allowed.error is None


async def test_pages_go_on_strictly_below_the_last_update(legacy: Legacy, node_client: NodeClient) -> None:
    """So a session with the same time as the last one of a page is on no page."""
    client = Client(legacy.url)
    for _ in range(3):
        await create(node_client, client)
    first = (await node_client.call(client, query("session.getRecent", {"limit": 2}))).data
    rest = (
        await node_client.call(client, query("session.getRecent", {"limit": 2, "cursor": first["nextCursor"]}))
    ).data
    assert first["nextCursor"] == first["sessions"][-1]["updated"]
    assert all(session["updated"] < first["nextCursor"] for session in rest["sessions"])
    assert rest["nextCursor"] is None


async def test_without_its_queue_the_writes_of_a_batch_lock_each_other_out(
    tmp_path: Path, node_client: NodeClient
) -> None:
    """What was refused was not applied, and the answer shows the query with its parameters."""
    async with running_legacy(tmp_path, "--no-write-queue") as legacy:
        changes = [
            mutation("session.updateTitle", {"sessionId": f"s{n}", "title": "t"}, together=True) for n in range(10)
        ]
        run = await node_client.run(Client(legacy.url), *changes)
        done = [result for result in run.results if result.error is None]
        assert 0 < len(done) < 10
        assert len(legacy.audit()) == len(done)


async def test_ids_from_the_clock_collide(tmp_path: Path, node_client: NodeClient) -> None:
    async with running_legacy(tmp_path, "--clock-ids") as legacy:
        new = {"provider": "openai", "model": "gpt-5"}
        run = await node_client.run(
            Client(legacy.url), *(mutation("session.create", new, together=True) for _ in range(20))
        )
        failed = [result.error for result in run.results if result.error is not None]
        assert failed
        assert all(error.code == "INTERNAL_SERVER_ERROR" and "Failed query" in error.message for error in failed)
        assert len(legacy.audit()) == 20 - len(failed)
