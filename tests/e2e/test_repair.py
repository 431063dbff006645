"""An operator mends what was changed behind the proxy's back, seeing the plan first."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.support.legacy import Legacy
from tests.support.node_client import Client, NodeClient, mutation
from tests.support.proxy import changeover, running_proxy


async def test_a_plan_is_shown_first_and_carried_out_only_when_told(
    legacy: Legacy, node_client: NodeClient, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{legacy.port}"
    async with running_proxy(address, tmp_path / "proxy") as proxy:
        made = await node_client.call(
            Client(f"{proxy.url}/trpc"), mutation("session.create", {"provider": "openai", "model": "gpt-5"})
        )
        key = {"sessionId": made.data["id"]}
        await node_client.call(Client(legacy.url), mutation("session.updateTitle", {**key, "title": "Other"}))
        where: tuple[str, ...] = (
            "--legacy",
            address,
            "--contract",
            "examples/contract.toml",
            "--database",
            proxy.database,
        )
        where += ("--admin", proxy.admin, "--entity", "session", "--repair")

        wrong = await asyncio.to_thread(changeover, "reconcile", *where, "--authoritative", "log")
        plan = await asyncio.to_thread(changeover, "reconcile", *where)
        done = await asyncio.to_thread(changeover, "reconcile", *where, "--yes", "--actor", "ann")
        again = await asyncio.to_thread(changeover, "reconcile", *where)
        state = changeover("state", "session", key["sessionId"], "--json", "--database", proxy.database)

    assert (wrong.returncode, "the legacy decides" in wrong.stderr) == (3, True), wrong.stderr
    assert (plan.returncode, "add --yes" in plan.stdout) == (1, True), plan.stdout + plan.stderr
    assert f"session {key['sessionId']}: append to session:{key['sessionId']}" in plan.stdout
    assert (done.returncode, "1 repaired" in done.stdout) == (0, True), done.stdout + done.stderr
    assert (again.returncode, "nothing to repair" in again.stdout) == (0, True), again.stdout + again.stderr
    assert json.loads(state.stdout)["fields"]["title"] == "Other"
