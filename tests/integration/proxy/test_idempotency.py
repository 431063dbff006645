"""A client that heard nothing asks again: one effect, one event, and the very answer that it missed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.contracts import impatient
from tests.support.journal import drafts, intents, settled
from tests.support.legacy import Legacy
from tests.support.node import stop
from tests.support.proxy import ProxyProcess, start_proxy

CREATE = {"provider": "openai", "model": "gpt-5"}


def start(legacy: Legacy, folder: Path, *flags: str, **environment: str) -> ProxyProcess:
    return start_proxy(
        f"http://127.0.0.1:{legacy.port}",
        folder / "proxy",
        *flags,
        contract=impatient(folder),
        environment=environment,
    )


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


async def post(url: str, target: str, given: Any, key: str | None = "k1", **headers: str) -> httpx.Response:
    sent = {**headers, **({} if key is None else {"idempotency-key": key})}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(f"{url}/trpc/{target}", json=given, headers=sent)


def told(answer: httpx.Response) -> tuple[int, bytes, str]:
    return answer.status_code, answer.content, answer.headers["content-type"]


async def test_a_retry_gets_the_first_answer_byte_for_byte_and_changes_nothing(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    first = await post(proxy.url, "session.create", CREATE)
    again = await post(proxy.url, "session.create", CREATE)

    assert first.status_code == 200
    assert told(again) == told(first)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(legacy.audit()) == len(drafts(proxy.database)) == 1


async def test_the_answer_outlives_the_proxy(legacy: Legacy, tmp_path: Path) -> None:
    """Killed after the answer became durable and before the client heard it: the retry hears it."""
    proxy = await asyncio.to_thread(start, legacy, tmp_path, CHANGEOVER_FAULT="settled")
    with pytest.raises(httpx.HTTPError):
        await post(proxy.url, "session.create", CREATE)
    await asyncio.to_thread(stop, proxy.process)
    again = await asyncio.to_thread(start, legacy, tmp_path)
    try:
        answer = await post(again.url, "session.create", CREATE)
        events = drafts(again.database)
    finally:
        await asyncio.to_thread(stop, again.process, grace=60)

    assert answer.status_code == 200
    assert [draft.entity and draft.entity.key for draft in events] == [answer.json()["result"]["data"]["id"]]
    assert len(legacy.audit()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"given": {**CREATE, "model": "gpt-6"}},
        {"target": "session.create?batch=1", "given": {"0": CREATE}},
        {"authorization": "Bearer somebody-else"},
    ],
)
async def test_a_key_is_refused_for_another_input_path_or_caller(
    proxy: ProxyProcess, legacy: Legacy, change: dict[str, Any]
) -> None:
    await post(proxy.url, "session.create", CREATE)
    wish: dict[str, Any] = {"target": "session.create", "given": CREATE, **change}
    refused = await post(proxy.url, **wish)

    assert refused.status_code == 409
    assert refused.json()["error"]["data"]["code"] == "CONFLICT"
    assert len(legacy.audit()) == 1


async def test_requests_with_one_key_at_the_same_time_have_one_effect(proxy: ProxyProcess, legacy: Legacy) -> None:
    """Whoever comes while the first is running waits for its answer."""
    slow = {"x-fault": "delay-before-commit:300"}
    answers = await asyncio.gather(*(post(proxy.url, "session.create", CREATE, **slow) for _ in range(5)))

    assert len({told(answer) for answer in answers}) == 1
    assert len(legacy.audit()) == len(intents(proxy.database)) == 1


async def test_a_batch_is_answered_again_as_a_whole(proxy: ProxyProcess, legacy: Legacy) -> None:
    target = "session.create,session.create?batch=1"
    batch = {"0": CREATE, "1": {**CREATE, "model": "gpt-6"}}
    first = await post(proxy.url, target, batch)
    again = await post(proxy.url, target, batch)

    assert told(again) == told(first)
    assert len(again.json()) == len(legacy.audit()) == 2


async def test_a_streamed_batch_is_answered_again_as_it_was(proxy: ProxyProcess, legacy: Legacy) -> None:
    target = "session.create,session.create?batch=1"
    batch = {"0": CREATE, "1": CREATE}
    stream = {"trpc-accept": "application/jsonl"}
    first = await post(proxy.url, target, batch, **stream)
    again = await post(proxy.url, target, batch, **stream)

    assert first.content.count(b"\n") > 2
    assert told(again) == told(first)
    assert len(legacy.audit()) == len(drafts(proxy.database)) == 2


async def test_what_was_refused_before_it_ran_may_be_tried_again(proxy: ProxyProcess, legacy: Legacy) -> None:
    refused = await post(proxy.url, "session.create", {"provider": ""})
    better = await post(proxy.url, "session.create", CREATE)

    assert (refused.status_code, better.status_code) == (400, 200)
    assert len(legacy.audit()) == 1


async def test_what_was_refused_in_words_is_answered_in_the_same_words(proxy: ProxyProcess) -> None:
    toggle = {"ruleId": "no-such-rule", "enabled": True}
    first = await post(proxy.url, "rules.toggle", toggle)
    again = await post(proxy.url, "rules.toggle", toggle)

    assert first.json()["result"]["data"]["success"] is False
    assert (told(again), again.headers["idempotent-replayed"]) == (told(first), "true")


async def test_a_call_that_was_lost_before_it_was_applied_is_tried_again(proxy: ProxyProcess, legacy: Legacy) -> None:
    lost = await post(proxy.url, "session.create", CREATE, **{"x-fault": "reset-before-commit"})
    again = await post(proxy.url, "session.create", CREATE)

    assert (lost.status_code, again.status_code) == (502, 200)
    assert len(legacy.audit()) == len(drafts(proxy.database)) == 1


async def test_a_call_that_was_applied_though_its_answer_was_lost_is_not_repeated(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    await post(proxy.url, "session.create", CREATE, **{"x-fault": "reset-after-commit"})
    again = await post(proxy.url, "session.create", CREATE)
    await settled(proxy.database)

    assert again.status_code == 409
    assert "answer was lost" in json.dumps(again.json())
    assert len(legacy.audit()) == len(drafts(proxy.database)) == 1


async def test_kept_answers_expire(legacy: Legacy, tmp_path: Path) -> None:
    proxy = await asyncio.to_thread(start, legacy, tmp_path, "--keep-answers", "0")
    try:
        first = await post(proxy.url, "session.create", CREATE)
        again = await post(proxy.url, "session.create", CREATE)
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert (first.status_code, again.status_code) == (200, 200)
    assert len(legacy.audit()) == 2
