"""A proxy that compares all the time tells of drift by itself."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.legacy import Legacy
from tests.support.node_client import Client, NodeClient, mutation
from tests.support.proxy import running_proxy


async def test_a_change_behind_its_back_shows_in_status_and_metrics(
    legacy: Legacy, node_client: NodeClient, tmp_path: Path
) -> None:
    async with running_proxy(
        f"http://127.0.0.1:{legacy.port}",
        tmp_path / "proxy",
        "--reconcile-every",
        "sessions=200ms",
        "--reconcile-rate",
        "500",
    ) as proxy:
        made = await node_client.call(
            Client(f"{proxy.url}/trpc"), mutation("session.create", {"provider": "openai", "model": "gpt-5"})
        )
        change = {"sessionId": made.data["id"], "title": "Other"}
        await node_client.call(Client(legacy.url), mutation("session.updateTitle", change))
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            async with http.stream("GET", f"{proxy.url}/_changeover/events?channel=app:reconcile") as runs:
                async for line in runs.aiter_lines():
                    if '"verdict":"drift"' in line:
                        break
            status = (await http.get(f"{proxy.admin}/status")).json()
            metrics = (await http.get(f"{proxy.admin}/metrics")).text

    sessions = next(phase for phase in status["phases"] if phase["phase"] == "sessions")
    assert (sessions["drift"], sessions["coverage"]) == (1, "100.0%")
    assert 'changeover_reconcile_differing{phase="sessions"} 1.0' in metrics
