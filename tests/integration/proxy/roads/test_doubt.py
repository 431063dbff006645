"""A real legacy fails while calls travel by stream or WebSocket; the proxy finds out what became of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shadow.journal import Outcome
from tests.support.contracts import impatient
from tests.support.journal import drafts, settled
from tests.support.legacy import Legacy
from tests.support.node import stop
from tests.support.node_client import Client, Link, NodeClient, mutation
from tests.support.proxy import start_proxy


@pytest.mark.parametrize("link", ["httpBatchStreamLink", "wsLink"])
async def test_what_became_of_a_call_that_nobody_answered_is_found_out(
    legacy: Legacy, node_client: NodeClient, tmp_path: Path, link: Link
) -> None:
    proxy = await asyncio.to_thread(
        lambda: start_proxy(
            f"http://127.0.0.1:{legacy.port}",
            tmp_path / "proxy",
            "--response-timeout",
            "0.5",
            contract=impatient(tmp_path),
        )
    )
    try:
        url = f"{proxy.url}/trpc"
        made = await node_client.call(Client(url, link), mutation("session.create", {"provider": "p", "model": "m"}))
        for fault in ("reset-after", "hang-after", "reset-before", "hang-before"):
            rename = mutation("session.updateTitle", {"sessionId": made.data["id"], "title": fault})
            result = await node_client.call(Client(url, link, headers={"x-fault": f"{fault}-commit"}), rename)
            assert result.error is not None, fault
            await settled(proxy.database)
        outcomes = {intent.input.get("title"): intent.outcome for intent in await settled(proxy.database)}
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert outcomes == {
        None: Outcome.APPLIED,
        "reset-after": Outcome.APPLIED,
        "hang-after": Outcome.APPLIED,
        "reset-before": Outcome.NOT_APPLIED,
        "hang-before": Outcome.NOT_APPLIED,
    }
    titles = [draft.data["title"] for draft in drafts(proxy.database) if draft.type == "session-title-updated"]
    assert titles == ["reset-after", "hang-after"]
