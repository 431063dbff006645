"""The order of events on one entity is the legacy's own, however calls travel and whoever waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.contracts import contract_with
from tests.support.journal import drafts, fields, until
from tests.support.legacy import Legacy
from tests.support.node import stop
from tests.support.proxy import ProxyProcess, start_proxy

CREATE = {"provider": "openai", "model": "gpt-5"}


def start(legacy: Legacy, folder: Path, *changes: tuple[str, str]) -> ProxyProcess:
    contract = contract_with(folder, *changes)
    return start_proxy(f"http://127.0.0.1:{legacy.port}", folder / "proxy", contract=contract)


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


@pytest.fixture(name="observed")
async def _observed(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    phase = 'entities = ["session", "message"]'
    changed = (phase, f'{phase}\nordering = "observed"')
    proxy = await asyncio.to_thread(start, legacy, tmp_path, changed)
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


async def post(url: str, target: str, given: Any, fault: str | None = None) -> httpx.Response:
    headers = {} if fault is None else {"x-fault": fault}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(f"{url}/trpc/{target}", json=given, headers=headers)


async def made(proxy: ProxyProcess) -> str:
    answer = await post(proxy.url, "session.create", CREATE)
    return str(answer.json()["result"]["data"]["id"])


@pytest.mark.parametrize("late", ["session.updateModel", "session.updateProvider"])
async def test_of_two_members_of_a_batch_on_one_entity_the_last_event_is_the_legacys_last(
    proxy: ProxyProcess, legacy: Legacy, late: str
) -> None:
    key = {"sessionId": await made(proxy)}
    batch = {"0": {**key, "model": "m-one"}, "1": {**key, "provider": "other", "model": "m-two"}}
    target = "session.updateModel,session.updateProvider?batch=1"
    answer = await post(proxy.url, target, batch, f"{late}=delay-before-commit:300")

    assert answer.status_code == 200
    assert legacy.audit()[-1].procedure == late
    kinds = {"session.updateModel": "session-model-updated", "session.updateProvider": "session-provider-updated"}
    told = [draft.type for draft in drafts(proxy.database)]
    assert sorted(told[1:]) == sorted(kinds.values())
    assert told[-1] == kinds[late]


async def test_calls_that_overlap_do_not_wait_where_order_is_observed_and_the_log_ends_as_the_legacy_did(
    observed: ProxyProcess, legacy: Legacy
) -> None:
    """The first is applied first and answered last: its event comes last, and a correction after it."""
    key = {"sessionId": await made(observed)}
    async with asyncio.TaskGroup() as group:
        slow = group.create_task(
            post(observed.url, "session.updateModel", {**key, "model": "m-one"}, "delay-after-commit:2000")
        )
        await until(lambda: len(legacy.audit()) == 2)
        quick = await post(observed.url, "session.updateProvider", {**key, "provider": "other", "model": "m-two"})
        assert not slow.done(), "the second did not wait for the first"

    assert (quick.status_code, slow.result().status_code) == (200, 200)
    state = fields(observed.database, "session", key["sessionId"])
    assert state is not None
    assert (state["provider"], state["model"]) == ("other", "m-two")
    told = [draft.type for draft in drafts(observed.database)]
    assert told == ["session-created", "session-provider-updated", "session-model-updated", "entity-observed"]
    assert (drafts(observed.database)[-1].cause or "").startswith("order:")


async def test_a_change_of_what_is_just_being_made_comes_after_its_creation(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    """Another client sees the new session in a list, and renames it before its maker was answered."""
    async with asyncio.TaskGroup() as group:
        maker = group.create_task(post(proxy.url, "session.create", CREATE, "delay-after-commit:1500"))
        await until(lambda: len(legacy.audit()) == 1)
        key = legacy.audit()[0].key
        renamed = await post(proxy.url, "session.updateTitle", {"sessionId": key, "title": "Plans"})
        assert maker.done(), "the rename waited for the creation"

    assert renamed.status_code == 200
    assert [draft.type for draft in drafts(proxy.database)] == ["session-created", "session-title-updated"]
    state = fields(proxy.database, "session", key)
    assert state is not None
    assert state["title"] == "Plans"
