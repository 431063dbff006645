"""The same proxy over PostgreSQL: nothing but the database's address is another."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.legacy import Legacy
from tests.support.node_client import Client, NodeClient, mutation
from tests.support.postgres import Postgres
from tests.support.proxy import ProxyFailed, changeover, running_proxy, start_proxy


async def test_the_line_holds_over_postgresql(
    legacy: Legacy, tmp_path: Path, node_client: NodeClient, postgres: Postgres
) -> None:
    address, database = f"http://127.0.0.1:{legacy.port}", postgres.database()
    async with running_proxy(address, tmp_path / "one", database=database) as proxy:
        client = Client(f"{proxy.url}/trpc")
        made = await node_client.call(client, mutation("session.create", {"provider": "openai", "model": "gpt-5"}))
        renamed = {"sessionId": made.data["id"], "title": "Plans"}
        await node_client.call(client, mutation("session.updateTitle", renamed))

        with pytest.raises(ProxyFailed, match=r"writing the log|another process") as refused:
            await asyncio.to_thread(start_proxy, address, tmp_path / "two", database=database)
        assert "Traceback" not in str(refused.value)

        tail = await asyncio.to_thread(changeover, "events", "tail", "--json", "--database", database)
        verified = await asyncio.to_thread(changeover, "events", "verify", "--database", database)
        command = ("reconcile", "--legacy", address, "--contract", "examples/contract.toml", "--entity", "session")
        compared = await asyncio.to_thread(changeover, *command, "--database", database)

    types = [json.loads(line)["type"] for line in tail.stdout.splitlines()]
    assert [name for name in types if name.startswith("session")] == ["session-created", "session-title-updated"]
    assert (verified.returncode, compared.returncode) == (0, 0), compared.stdout + compared.stderr
