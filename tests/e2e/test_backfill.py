"""A legacy with a past: it is taken into the log while clients write, and then both sides agree on everything."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.legacy import Legacy, running_legacy
from tests.support.node import ROOT
from tests.support.node_client import Client, NodeClient, mutation
from tests.support.proxy import CONTRACT, ProxyProcess, changeover, running_proxy


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy:
        yield proxy


def options(legacy: Legacy, database: str) -> tuple[str, ...]:
    address = f"http://127.0.0.1:{legacy.port}"
    return "--legacy", address, "--contract", "examples/contract.toml", "--database", database


async def create(node: NodeClient, url: str, count: int) -> None:
    for _ in range(count):
        answer = await node.call(Client(url), mutation("session.create", {"provider": "openai", "model": "gpt-5"}))
        assert answer.error is None


async def test_a_past_is_imported_beside_a_running_proxy_and_everything_is_equal(
    proxy: ProxyProcess, legacy: Legacy, node_client: NodeClient
) -> None:
    where = options(legacy, proxy.database)
    await create(node_client, legacy.url, 3)
    key = {"providerId": "acme", "config": {"apiKey": "sk-acme-0123456789", "baseUrl": "http://acme"}}
    await node_client.call(Client(legacy.url), mutation("config.updateProviderConfig", key))

    where += ("--admin", proxy.admin)
    before = await asyncio.to_thread(changeover, "reconcile", *where, "--format", "json")
    imported, _ = await asyncio.gather(
        asyncio.to_thread(changeover, "backfill", *where, "--json"),
        create(node_client, f"{proxy.url}/trpc", 5),
    )
    again = await asyncio.to_thread(changeover, "backfill", *where, "--json")
    after = await asyncio.to_thread(changeover, "reconcile", *where, "--format", "json")

    assert before.returncode == 1, before.stdout + before.stderr
    assert imported.returncode == 0, imported.stdout + imported.stderr
    assert [row["imported"] for row in json.loads(again.stdout)] == [0] * 5
    assert after.returncode == 0, after.stdout + after.stderr
    scopes = {scope["entity"]: scope["matched"] for scope in json.loads(after.stdout)["scopes"]}
    assert scopes == {"session": 8, "message": 0, "provider": 1, "selection": 1, "rule": 4, "agent": 1}
    runs = await asyncio.to_thread(changeover, "reconcile", "history", "--json", "--database", proxy.database)
    assert [json.loads(line)["verdict"] for line in runs.stdout.splitlines()] == ["drift", "clean"]
    told = await asyncio.to_thread(changeover, "events", "tail", "--json", "--database", proxy.database)
    assert "acme" in told.stdout
    assert "sk-acme-0123456789" not in told.stdout


async def test_without_a_proxy_the_log_is_written_directly(legacy: Legacy, tmp_path: Path) -> None:
    where = options(legacy, f"sqlite:///{tmp_path / 'log.db'}")
    done = await asyncio.to_thread(changeover, "backfill", "rules", "agents", *where)
    clean = await asyncio.to_thread(changeover, "reconcile", "--phase", "rules", "--phase", "agents", *where)
    assert (done.returncode, clean.returncode) == (0, 0), done.stderr + clean.stdout


async def test_a_log_in_other_hands_asks_for_the_right_admin_port(proxy: ProxyProcess, legacy: Legacy) -> None:
    where = options(legacy, proxy.database)
    done = await asyncio.to_thread(changeover, "backfill", *where, "--admin", f"http://127.0.0.1:{legacy.port}")
    assert done.returncode == 3
    assert "--admin" in done.stderr
    assert "Traceback" not in done.stderr


async def test_sealed_secrets_are_compared_with_what_the_legacy_shows_of_them(
    proxy: ProxyProcess, legacy: Legacy, node_client: NodeClient
) -> None:
    """The legacy masks the keys of providers that it knows, and shows those of others in clear."""
    for provider in ("openai", "acme"):
        config = {"providerId": provider, "config": {"apiKey": f"sk-{provider}-0123456789", "baseUrl": "http://x"}}
        await node_client.call(Client(f"{proxy.url}/trpc"), mutation("config.updateProviderConfig", config))
    where = (*options(legacy, proxy.database), "--admin", proxy.admin, "--entity", "provider")
    clean = await asyncio.to_thread(changeover, "reconcile", *where)
    keyless = await asyncio.to_thread(changeover, "reconcile", *where, environment={"CHANGEOVER_KEYS": ""})
    changed = {"providerId": "acme", "config": {"apiKey": "sk-other-0123456789", "baseUrl": "http://x"}}
    await node_client.call(Client(legacy.url), mutation("config.updateProviderConfig", changed))
    drift = await asyncio.to_thread(changeover, "reconcile", *where, "--format", "json")
    repair = await asyncio.to_thread(changeover, "reconcile", *where, "--repair", "--yes")
    again = await asyncio.to_thread(changeover, "reconcile", *where)

    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "1 sealed secret(s) not compared" in " ".join(keyless.stdout.split()), keyless.stdout + keyless.stderr
    assert drift.returncode == 1, drift.stdout
    (finding,) = json.loads(drift.stdout)["findings"]
    assert (finding["key"], [one["path"] for one in finding["differences"]]) == ("acme", ["apiKey"])
    assert (repair.returncode, again.returncode) == (0, 0), repair.stdout + repair.stderr + again.stdout
    said = clean.stdout + keyless.stdout + drift.stdout + repair.stdout + again.stdout
    told = await asyncio.to_thread(changeover, "events", "tail", "--json", "--database", proxy.database)
    assert "0123456789" not in said + told.stdout


async def test_a_backfill_that_was_killed_goes_on_and_imports_nothing_twice(
    proxy: ProxyProcess, legacy: Legacy, node_client: NodeClient
) -> None:
    await create(node_client, legacy.url, 40)
    arguments = [*options(legacy, proxy.database), "--admin", proxy.admin, "--entity", "session"]
    slow = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "changeover", "backfill", *arguments, "--rate", "20", cwd=ROOT
    )
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        address = f"{proxy.url}/_changeover/events?channel=app:import"
        async with http.stream("GET", address) as imports:
            async for line in imports.aiter_lines():
                if "session-imported" in line:
                    break
    slow.kill()
    await slow.wait()
    again = await asyncio.to_thread(changeover, "backfill", *arguments, "--json")
    (row,) = json.loads(again.stdout)
    told = await asyncio.to_thread(
        changeover, "events", "tail", "-n", "1000", "--channel", "app:import", "--json", "--database", proxy.database
    )
    imported = [event["key"] for event in map(json.loads, told.stdout.splitlines()) if event["key"]]

    assert again.returncode == 0, again.stderr
    assert row["present"] > 0, "it was killed after its first imports"
    assert row["present"] + row["imported"] == 40
    assert len(imported) == len(set(imported)) == 40


async def test_a_legacy_that_speaks_superjson_is_imported_and_compared(tmp_path: Path) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT.read_text().replace('transformer = "none"', 'transformer = "superjson"'))
    async with running_legacy(tmp_path / "legacy", "--superjson") as legacy:
        where = ("--legacy", f"http://127.0.0.1:{legacy.port}", "--contract", str(contract))
        database = ("--database", f"sqlite:///{tmp_path / 'log.db'}")
        done = await asyncio.to_thread(changeover, "backfill", *where, *database)
        clean = await asyncio.to_thread(changeover, "reconcile", *where, *database)
    assert (done.returncode, clean.returncode) == (0, 0), done.stdout + done.stderr + clean.stdout
