"""What the contract calls secret is never in clear in what a run leaves or shows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.legacy import Legacy
from tests.support.node_client import Client, Link, NodeClient, mutation
from tests.support.proxy import ProxyFailed, changeover, running_proxy, start_proxy

SECRETS = {"httpLink": "sk-one-1234567890abcdef", "httpBatchLink": "sk-two-fedcba0987654321"}


async def test_a_secret_is_in_no_file_no_answer_of_a_command_and_no_subscribers_event(
    legacy: Legacy, tmp_path: Path, node_client: NodeClient
) -> None:
    data = tmp_path / "proxy"
    links: tuple[Link, ...] = ("httpLink", "httpBatchLink")
    async with (
        running_proxy(f"http://127.0.0.1:{legacy.port}", data) as proxy,
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        for link in links:
            provider = {"providerId": link, "config": {"apiKey": SECRETS[link], "defaultModel": "m"}}
            saved = await node_client.call(
                Client(f"{proxy.url}/trpc", link), mutation("config.updateProviderConfig", provider)
            )
            assert saved.data == {"success": True}, saved
        shown = [
            await asyncio.to_thread(changeover, *command, "--database", proxy.database)
            for command in (("events", "tail", "--json"), ("events", "tail"), ("state", "provider", "--json"))
        ]
        seen = ""
        url = f"{proxy.url}/_changeover/events"
        async with http.stream("GET", url, params={"channel": "config:ai", "after": "0"}) as stream:
            async for line in stream.aiter_lines():
                seen += line
                if "httpBatchLink" in line:
                    break
        metrics = (await http.get(f"{proxy.admin}/metrics")).text + (await http.get(f"{proxy.admin}/status")).text

    kept = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    told = "".join(done.stdout + done.stderr for done in shown) + seen + metrics
    assert "sk-one-***" in told
    for secret in SECRETS.values():
        assert secret.encode() not in kept
        assert secret not in told


async def test_equal_secrets_are_told_apart_from_others_without_opening_them(
    legacy: Legacy, tmp_path: Path, node_client: NodeClient
) -> None:
    """The reconciler compares a sealed key with the mask that the legacy shows."""
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy:
        provider = {"providerId": "openai", "config": {"apiKey": SECRETS["httpLink"], "defaultModel": "m"}}
        await node_client.call(Client(f"{proxy.url}/trpc"), mutation("config.updateProviderConfig", provider))
        command: tuple[str, ...] = (
            "reconcile",
            "--legacy",
            f"http://127.0.0.1:{legacy.port}",
            "--database",
            proxy.database,
        )
        command += ("--contract", "examples/contract.toml", "--entity", "provider")
        equal = await asyncio.to_thread(changeover, *command)
        provider["config"] = {"apiKey": "sk-xyz-another-key-entirely", "defaultModel": "m"}
        await node_client.call(Client(legacy.url), mutation("config.updateProviderConfig", provider))
        differs = await asyncio.to_thread(changeover, *command)

    assert equal.returncode == 0, equal.stdout + equal.stderr
    assert differs.returncode == 1, differs.stdout + differs.stderr
    assert "sk-xyz-another-key-entirely" not in differs.stdout


def test_a_contract_that_names_secrets_is_refused_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(ProxyFailed, match="CHANGEOVER_KEYS") as refused:
        start_proxy("http://127.0.0.1:1", tmp_path, environment={"CHANGEOVER_KEYS": ""})

    assert "Traceback" not in str(refused.value)
