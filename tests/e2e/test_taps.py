"""A streamed answer that makes a session is a mutation without a mutation: the log has it, subscribers see it grow."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shadow.json import Json
from tests.support.legacy import Legacy
from tests.support.node_client import Client, Link, NodeClient, subscription
from tests.support.proxy import ProxyProcess, changeover, running_proxy

STORED = ["session-created", "message-added", "answer-progressed", "answer-progressed", "session-title-updated"]


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy:
        yield proxy


async def followed(lines: AsyncIterator[str]) -> list[Json]:
    """Every event that a subscriber sees, up to the new title."""
    seen: list[Json] = []
    async for line in lines:
        if line.startswith("data: {") and '"type"' in line:
            seen.append(json.loads(line.removeprefix("data: ")))
            if seen[-1]["type"] == "session-title-updated":
                return seen
    raise AssertionError(f"the stream ended after {seen}")


@pytest.mark.parametrize("link", ["splitLink", "wsLink"])
async def test_a_session_made_by_a_streamed_answer_is_in_the_log_and_its_text_is_seen_live(
    proxy: ProxyProcess, legacy: Legacy, node_client: NodeClient, link: Link
) -> None:
    ask = subscription("message.streamResponse", {"provider": "p", "model": "m", "content": "Plan my week"})
    url = f"{proxy.url}/_changeover/events"
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
        http.stream("GET", url, params={"channel": "session:*"}) as live,
    ):
        lines = live.aiter_lines()
        await anext(lines)
        result = await node_client.call(Client(f"{proxy.url}/trpc", link), ask)
        seen = await followed(lines)

    assert (result.error, result.ended) == (None, "complete")
    (key,) = {item["sessionId"] for item in result.items}
    text = [item["text"] for item in result.items if item["type"] == "text-delta"]
    assert [event["payload"]["text"] for event in seen if event["type"] == "text-delta"] == text != []
    assert {event["cursor"] for event in seen if event["type"].endswith("-delta")} == {None}
    assert [event["type"] for event in seen if event["cursor"] is not None] == STORED
    assert {event["channel"] for event in seen} == {f"session:{key}"}
    shown = await asyncio.to_thread(changeover, "state", "session", key, "--json", "--database", proxy.database)
    fields = json.loads(shown.stdout)["fields"]
    assert (fields["title"], fields["provider"]) == (result.items[-1]["title"], "p")
    compared = await asyncio.to_thread(
        changeover,
        *("reconcile", "--legacy", f"http://127.0.0.1:{legacy.port}", "--contract", "examples/contract.toml"),
        *("--database", proxy.database, "--entity", "session"),
    )
    assert compared.returncode == 0, compared.stdout + compared.stderr
