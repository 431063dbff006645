"""A proxy that is asked to stop: what runs is settled, what waits for nothing is let go, nobody else gets the log."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from shadow.journal import Outcome
from tests.support.contracts import impatient
from tests.support.journal import drafts, intents, until
from tests.support.legacy import Legacy
from tests.support.node import stop
from tests.support.proxy import ProxyProcess, changeover, start_proxy

CREATE = {"provider": "openai", "model": "gpt-5"}


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    address = f"http://127.0.0.1:{legacy.port}"
    contract = impatient(tmp_path)
    proxy = await asyncio.to_thread(
        lambda: start_proxy(address, tmp_path / "proxy", "--drain", "30", contract=contract)
    )
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


async def call(proxy: ProxyProcess, procedure: str, given: Any, fault: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(f"{proxy.url}/trpc/{procedure}", json=given, headers={"x-fault": fault})


async def test_what_is_under_way_is_settled_and_answered_before_the_proxy_ends(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(call(proxy, "session.create", CREATE, "delay-after-commit:1000"))
        await until(lambda: len(legacy.audit()) == 1)
        status = await proxy.terminated()

    assert (status, running.result().status_code) == (0, 200)
    assert [intent.outcome for intent in intents(proxy.database)] == [Outcome.APPLIED]
    assert [draft.type for draft in drafts(proxy.database)] == ["session-created"]


async def test_a_second_signal_ends_it_at_once_and_leaves_a_doubt_and_no_open_intent(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(asyncio.wait_for(lost(proxy, "hang-after-commit"), 60))
        await until(lambda: len(legacy.audit()) == 1)
        proxy.process.send_signal(signal.SIGTERM)
        await until(lambda: "stopping" in proxy.stderr())
        proxy.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(proxy.process.wait, 20)
        await running

    assert status == 0
    assert [(intent.outcome, intent.detail) for intent in intents(proxy.database)] == [(Outcome.IN_DOUBT, "aborted")]


async def lost(proxy: ProxyProcess, fault: str) -> None:
    with pytest.raises(httpx.HTTPError):
        await call(proxy, "session.create", CREATE, fault)


@pytest.mark.parametrize("path", ["/_changeover/events?channel=session:*", "/trpc/message.streamResponse"])
async def test_streams_of_events_do_not_hold_it_up(proxy: ProxyProcess, path: str) -> None:
    """Neither the proxy's own subscriptions nor the legacy's; both kinds of client come back by themselves."""
    given = '{"provider": "openai", "model": "gpt-5", "content": "hello"}'
    headers = {"accept": "text/event-stream", "x-fault": "hang-after-commit"}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        wish = client.stream(
            "GET", proxy.url + path, params={"input": given} if "trpc" in path else {}, headers=headers
        )
        async with wish as stream:
            assert stream.status_code == 200
            ending = asyncio.get_running_loop().run_in_executor(None, stop, proxy.process)
            async with asyncio.timeout(20):
                with pytest.raises(httpx.HTTPError) if "trpc" in path else nullcontext():
                    async for _ in stream.aiter_raw():
                        pass
                assert await ending == 0


async def test_a_second_proxy_on_the_same_log_is_refused_in_a_sentence(
    proxy: ProxyProcess, legacy: Legacy, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{legacy.port}"
    wish = ["serve", "--legacy", address, "--contract", str(tmp_path / "contract.toml"), "--port", "0"]
    refused = await asyncio.to_thread(changeover, *wish, "--admin-port", "0", "--database", proxy.database)

    assert refused.returncode == 3
    assert f"process {proxy.pid} is writing the log" in refused.stderr
    assert "Traceback" not in refused.stderr
