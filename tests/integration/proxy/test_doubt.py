"""A real legacy fails in every way it can; the proxy finds out what became of each call, with nobody's help."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from shadow.journal import Outcome
from tests.support.contracts import impatient
from tests.support.journal import drafts, fields, intents, settled, until
from tests.support.legacy import Legacy, running_legacy
from tests.support.node import stop
from tests.support.proxy import CONTRACT, ProxyProcess, changeover, start_proxy

FLAGS = ("--response-timeout", "0.5")


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


def start(legacy: Legacy, folder: Path, *changes: tuple[str, str], **environment: str) -> ProxyProcess:
    return start_proxy(
        f"http://127.0.0.1:{legacy.port}",
        folder / "proxy",
        *FLAGS,
        contract=impatient(folder, *changes),
        environment=environment,
    )


async def call(url: str, procedure: str, given: Any, fault: str | None = None) -> httpx.Response:
    headers = {} if fault is None else {"x-fault": fault}
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(f"{url}/trpc/{procedure}", json=given, headers=headers)


async def made(url: str, **more: Any) -> Any:
    answer = await call(url, "session.create", {"provider": "openai", "model": "gpt-5", **more})
    assert answer.status_code == 200
    return answer.json()["result"]["data"]["id"]


FAULTS = ["error", "reset", "hang", "truncate"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_change_that_was_applied_before_the_failure_leads_to_the_event_that_it_owes(
    proxy: ProxyProcess, fault: str
) -> None:
    key = await made(proxy.url)

    answer = await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "Plans"}, f"{fault}-after-commit")
    settlements = await settled(proxy.database)

    assert answer.status_code >= 500
    assert [intent.outcome for intent in settlements] == [Outcome.APPLIED, Outcome.APPLIED]
    assert [draft.type for draft in drafts(proxy.database)] == ["session-created", "session-title-updated"]
    assert drafts(proxy.database)[-1].cause == f"intent:{settlements[-1].id}"


@pytest.mark.parametrize("fault", ["error", "reset", "hang"])
async def test_a_change_that_was_not_applied_leads_to_no_event(proxy: ProxyProcess, fault: str) -> None:
    key = await made(proxy.url)

    await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "Plans"}, f"{fault}-before-commit")
    settlements = await settled(proxy.database)

    assert settlements[-1].outcome is Outcome.NOT_APPLIED
    assert [draft.type for draft in drafts(proxy.database)] == ["session-created"]


@pytest.mark.parametrize(("point", "events"), [("before", []), ("after", ["session-created"])])
@pytest.mark.parametrize("fault", ["error", "reset"])
async def test_a_create_whose_key_nobody_heard_is_found_by_listing(
    proxy: ProxyProcess, legacy: Legacy, point: str, fault: str, events: list[str]
) -> None:
    await call(proxy.url, "session.create", {"provider": "openai", "model": "gpt-5"}, f"{fault}-{point}-commit")
    (intent,) = await settled(proxy.database)

    assert [draft.type for draft in drafts(proxy.database)] == events
    assert intent.outcome is (Outcome.APPLIED if events else Outcome.NOT_APPLIED)
    if events:
        (row,) = legacy.audit()
        found = fields(proxy.database, "session", row.key)
        assert found is not None
        assert (found["provider"], found["model"]) == ("openai", "gpt-5")


async def test_a_create_is_found_although_a_listed_item_lacks_some_of_its_fields(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    """The contract says which rules a session begins with, and the list of sessions does not show them."""
    given = {"provider": "openai", "model": "gpt-5", "content": "hello"}
    await call(proxy.url, "message.add", given, "reset-after-commit")
    await settled(proxy.database)

    (session,) = [row.key for row in legacy.audit() if row.entity == "session"]
    found = fields(proxy.database, "session", session)
    assert found is not None
    assert found["model"] == "gpt-5"


async def test_what_a_create_in_doubt_made_is_recorded_with_the_fields_that_the_list_lacks(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    """The list of sessions shows no rules; the single read does, and the log has what it says."""
    given = {"provider": "openai", "model": "gpt-5", "content": "hello"}
    await call(proxy.url, "message.add", given, "reset-after-commit")
    await settled(proxy.database)

    (session,) = [row.key for row in legacy.audit() if row.entity == "session"]
    expected = {"provider": "openai", "model": "gpt-5", "agentId": "coder", "enabledRuleIds": []}
    assert fields(proxy.database, "session", session) == expected


async def test_the_event_of_a_create_that_was_found_by_listing_tells_what_the_list_lacks(
    legacy: Legacy, tmp_path: Path
) -> None:
    text = CONTRACT.read_text()
    find = text[text.index('[mutation."session.create".find]') : text.index('[mutation."session.updateTitle"]')]
    proxy = await asyncio.to_thread(start, legacy, tmp_path, (find, ""))
    try:
        given = {"provider": "openai", "model": "gpt-5", "enabledRuleIds": ["concise"]}
        await call(proxy.url, "session.create", given, "reset-after-commit")
        (intent,) = await settled(proxy.database)
        (created,) = drafts(proxy.database)
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert (intent.outcome, created.type) == (Outcome.APPLIED, "session-created")
    assert created.change == {"provider": "openai", "model": "gpt-5", "agentId": "coder", "enabledRuleIds": ["concise"]}


async def test_creates_in_doubt_at_the_same_time_are_told_apart(proxy: ProxyProcess, legacy: Legacy) -> None:
    models = [f"m{number}" for number in range(6)]
    points = ["before" if number % 2 else "after" for number in range(6)]
    async with asyncio.TaskGroup() as group:
        for model, point in zip(models, points, strict=True):
            given = {"provider": "openai", "model": model}
            group.create_task(call(proxy.url, "session.create", given, f"reset-{point}-commit"))
    settlements = await settled(proxy.database)

    applied = {"m0", "m2", "m4"}
    told = {intent.input["model"]: intent.outcome for intent in settlements}
    assert {model for model, outcome in told.items() if outcome is Outcome.APPLIED} == applied
    assert {model for model, outcome in told.items() if outcome is Outcome.NOT_APPLIED} == set(models) - applied
    assert len(drafts(proxy.database)) == len(legacy.audit()) == 3


async def test_a_create_in_doubt_does_not_wait_for_one_that_is_in_doubt_next(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    async with asyncio.TaskGroup() as group:
        for fault in ("hang-before-commit", "error-before-commit", "hang-after-commit", "error-after-commit"):
            group.create_task(call(proxy.url, "session.create", {"provider": "openai", "model": fault}, fault))
    told = {intent.input["model"]: intent.outcome for intent in await settled(proxy.database)}

    assert {model for model, outcome in told.items() if outcome is Outcome.APPLIED} == {
        "hang-after-commit",
        "error-after-commit",
    }
    assert len(drafts(proxy.database)) == len(legacy.audit()) == 2


async def test_other_writers_wait_until_a_doubt_is_resolved_and_keep_the_legacys_order(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    key = await made(proxy.url)
    await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "first"}, "reset-after-commit")
    second = await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "second"})

    assert second.status_code == 200
    titles = [draft.data.get("title") for draft in drafts(proxy.database)]
    assert titles == [None, "first", "second"]


async def test_a_provider_in_doubt_is_told_by_its_masked_key(proxy: ProxyProcess) -> None:
    async def save(secret: str, fault: str | None = None) -> None:
        given = {"providerId": "openai", "config": {"apiKey": secret, "defaultModel": "gpt-5"}}
        await call(proxy.url, "config.updateProviderConfig", given, fault)

    await save("sk-1111111111111111")
    await save("sk-2222222222222222", "reset-after-commit")
    await settled(proxy.database)
    await save("sk-3333333333333333", "reset-before-commit")
    outcomes = [intent.outcome for intent in await settled(proxy.database)]

    assert outcomes == [Outcome.APPLIED, Outcome.APPLIED, Outcome.NOT_APPLIED]


async def test_what_a_dead_legacy_did_is_found_out_when_it_is_back(proxy: ProxyProcess, legacy: Legacy) -> None:
    key = await made(proxy.url)
    await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "Plans"}, "crash-after-commit")
    await legacy.exited()
    await until(lambda: intents(proxy.database)[-1].outcome is Outcome.IN_DOUBT)

    async with running_legacy(legacy.data, "--faults", port=legacy.port):
        settlements = await settled(proxy.database)

    assert settlements[-1].outcome is Outcome.APPLIED
    assert drafts(proxy.database)[-1].type == "session-title-updated"


@pytest.mark.parametrize("step", ["intended", "forwarded", "answered", "inside-settle:2", "settled"])
async def test_what_a_killed_proxy_left_open_is_resolved_at_its_next_start(
    legacy: Legacy, tmp_path: Path, step: str
) -> None:
    """Whichever step it dies at, the journal, the log and the legacy agree soon after it is back.

    The first event that is written tells of the proxy's start, hence the second.
    """
    proxy = await asyncio.to_thread(start, legacy, tmp_path, CHANGEOVER_FAULT=step)
    with pytest.raises(httpx.HTTPError):
        await call(proxy.url, "session.create", {"provider": "openai", "model": "gpt-5"})
    await asyncio.to_thread(stop, proxy.process)
    again = await asyncio.to_thread(start, legacy, tmp_path)
    try:
        (intent,) = await settled(again.database)
        events = drafts(again.database)
    finally:
        await asyncio.to_thread(stop, again.process, grace=60)

    assert len(events) == len(legacy.audit())
    assert (intent.outcome is Outcome.APPLIED) == bool(events)


@pytest.mark.parametrize(("point", "outcome"), [("after", Outcome.APPLIED), ("before", Outcome.NOT_APPLIED)])
async def test_what_has_no_list_is_found_by_the_query_that_the_contract_names(
    proxy: ProxyProcess, point: str, outcome: Outcome
) -> None:
    key = await made(proxy.url)
    said = {"sessionId": key, "content": "hello"}
    await call(proxy.url, "message.add", said)
    await call(proxy.url, "message.add", said, f"error-{point}-commit")
    settlements = await settled(proxy.database)

    assert settlements[-1].outcome is outcome
    messages = [draft for draft in drafts(proxy.database) if draft.type == "message-added"]
    assert len(messages) == len({draft.entity for draft in messages}) == (2 if outcome is Outcome.APPLIED else 1)


async def test_a_message_that_made_its_session_unheard_brings_the_session_into_the_log(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    said = {"provider": "openai", "model": "gpt-5", "content": "hello"}
    await call(proxy.url, "message.add", said, "error-after-commit")
    (intent,) = await settled(proxy.database)

    (session,) = [row for row in legacy.audit() if row.entity == "session"]
    assert intent.outcome in {Outcome.APPLIED, Outcome.OBSERVED}
    assert fields(proxy.database, "session", session.key) is not None


@pytest.fixture(name="blind")
async def _blind(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    """A proxy whose contract does not say where to look for messages."""
    text = CONTRACT.read_text()
    find = text[text.index('[mutation."message.add".find]') : text.index('[tap."message.streamResponse"]')]
    proxy = await asyncio.to_thread(start, legacy, tmp_path, (find, ""))
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


async def test_what_the_contract_cannot_read_is_quarantined_and_blocks_nobody(blind: ProxyProcess) -> None:
    proxy = blind
    key = await made(proxy.url)
    message = {"sessionId": key, "content": "hello"}
    await call(proxy.url, "message.add", message, "error-after-commit")
    await until(lambda: (intents(proxy.database)[-1].detail or "").startswith("quarantined:unreadable"))

    assert (await call(proxy.url, "message.add", message)).status_code == 200
    assert intents(proxy.database)[-2].outcome is Outcome.IN_DOUBT


async def test_doubts_are_listed_counted_and_shown(blind: ProxyProcess) -> None:
    proxy = blind
    key = await made(proxy.url)
    await call(proxy.url, "message.add", {"sessionId": key, "content": "hello"}, "error-after-commit")
    await until(lambda: (intents(proxy.database)[-1].detail or "").startswith("quarantined:"))

    listed = await asyncio.to_thread(changeover, "doubts", "--json", "--database", proxy.database)
    (row,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (row["procedure"], row["standing"], row["reason"]) == ("message.add", "quarantine", "unreadable")
    assert "quarantine" in (await asyncio.to_thread(changeover, "doubts", "--database", proxy.database)).stdout

    status = await asyncio.to_thread(changeover, "status", "--json", "--admin", proxy.admin)
    assert json.loads(status.stdout)["doubts"]["quarantined"] == 1
    async with httpx.AsyncClient(trust_env=False) as client:
        metrics = (await client.get(f"{proxy.admin}/metrics")).text
    assert "changeover_doubts 1.0" in metrics
    assert "changeover_doubts_quarantined 1.0" in metrics


async def test_a_success_that_the_contract_cannot_read_is_in_the_log_as_found_before_the_client_hears_of_it(
    legacy: Legacy, tmp_path: Path
) -> None:
    told = "data = \"{'sessionId': key, 'title': input.title}\""
    broken = told.replace("input.title", "output.title")
    proxy = await asyncio.to_thread(start, legacy, tmp_path, (told, broken))
    try:
        key = await made(proxy.url)
        answer = await call(proxy.url, "session.updateTitle", {"sessionId": key, "title": "Plans"})
        last = drafts(proxy.database)[-1]
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert answer.status_code == 200
    assert (last.type, last.change and last.change["title"]) == ("entity-observed", "Plans")
    assert last.cause == f"doubt:{intents(proxy.database)[-1].id}"
    assert intents(proxy.database)[-1].outcome is Outcome.OBSERVED
