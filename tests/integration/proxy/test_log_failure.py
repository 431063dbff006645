"""The disk is full: a phase is closed or goes on as its contract says, never in silence, and the log catches up."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shadow.journal import Outcome
from tests.support.contracts import impatient
from tests.support.journal import drafts, fields, intents, settled, until
from tests.support.legacy import Legacy
from tests.support.node import stop
from tests.support.proxy import ProxyProcess, changeover, start_proxy

OPEN = ('on_log_failure = "fail_closed"', 'on_log_failure = "fail_open"')
CREATE = {"provider": "openai", "model": "gpt-5"}
FULL = 16 * 1024
"""Bytes after which no file can be written: the database is longer, the spool is not."""


def start(legacy: Legacy, folder: Path, *flags: str, **environment: str) -> ProxyProcess:
    text = Path("examples/contract.toml").read_text()
    unmapped = text[text.index('[mutation."agents.select"]') : text.index("# --- channels")]
    return start_proxy(
        f"http://127.0.0.1:{legacy.port}",
        folder / "proxy",
        *flags,
        contract=impatient(folder, OPEN, (unmapped, "")),
        environment=environment,
    )


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    yield proxy
    await asyncio.to_thread(stop, proxy.process, grace=60)


@contextmanager
def full_disk(proxy: ProxyProcess) -> Iterator[None]:
    """Let the running proxy write no file beyond `FULL` bytes."""
    old = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (FULL, old[1]))
    try:
        yield
    finally:
        if proxy.process.poll() is None:
            resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, old)


async def call(
    proxy: ProxyProcess, procedure: str, given: Any, fault: str | None = None, key: str | None = None
) -> httpx.Response:
    headers = {} if fault is None else {"x-fault": fault}
    if key is not None:
        headers["idempotency-key"] = key
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.post(f"{proxy.url}/trpc/{procedure}", json=given, headers=headers)


def spool(proxy: ProxyProcess) -> Path:
    return Path(proxy.database.removeprefix("sqlite:///") + ".spool")


async def status(proxy: ProxyProcess) -> Any:
    done = await asyncio.to_thread(changeover, "status", "--json", "--admin", proxy.admin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_phase_that_fails_closed_refuses_before_anything_is_forwarded(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    toggle = {"ruleId": "concise", "enabled": True}
    with full_disk(proxy):
        refused = await call(proxy, "rules.toggle", toggle)
    accepted = await call(proxy, "rules.toggle", toggle)

    assert (refused.status_code, refused.json()["error"]["data"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert accepted.status_code == 200
    assert [row.procedure for row in legacy.audit()] == ["rules.toggle"]
    assert [draft.type for draft in drafts(proxy.database)] == ["rule-toggled"]


async def test_a_phase_that_fails_open_takes_nothing_that_must_not_happen_twice(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    """Without the log a retry could not be recognised, so what is sent with a key is refused before it is forwarded."""
    with full_disk(proxy):
        refused = await call(proxy, "session.create", CREATE, key="once")
    again = await call(proxy, "session.create", CREATE, key="once")

    assert (refused.status_code, again.status_code) == (503, 200)
    assert len(legacy.audit()) == 1


async def test_a_phase_that_fails_open_goes_on_and_is_shipped_in_order(proxy: ProxyProcess, legacy: Legacy) -> None:
    with full_disk(proxy):
        session = (await call(proxy, "session.create", CREATE)).json()["result"]["data"]["id"]
        for title in ("one", "two", "three"):
            answer = await call(proxy, "session.updateTitle", {"sessionId": session, "title": title})
            assert answer.status_code == 200
        assert drafts(proxy.database) == []
        shown = await status(proxy)
    await until(lambda: not spool(proxy).exists())
    after = await call(proxy, "session.updateTitle", {"sessionId": session, "title": "four"})

    assert shown["log"]["spooled"] == 4
    assert {row["phase"]: row["dirty"] for row in shown["phases"]}["sessions"] is True
    assert after.status_code == 200
    told = [(draft.type, draft.data.get("title")) for draft in drafts(proxy.database)]
    renamed = [("session-title-updated", title) for title in ("one", "two", "three", "four")]
    assert told == [("session-created", None), *renamed]
    assert [intent.outcome for intent in intents(proxy.database)] == [Outcome.APPLIED] * 5
    dirt = fields(proxy.database, "@dirty", "sessions")
    assert dirt is not None
    assert dirt["calls"] == 4


async def test_a_spool_that_a_killed_proxy_left_is_shipped_once_at_the_next_start(
    legacy: Legacy, tmp_path: Path
) -> None:
    proxy = await asyncio.to_thread(start, legacy, tmp_path)
    with full_disk(proxy):
        for number in range(3):
            await call(proxy, "session.create", {**CREATE, "model": f"m{number}"})
        proxy.kill()
    assert spool(proxy).exists()

    interrupted = await asyncio.to_thread(
        changeover, *serve(proxy, legacy, tmp_path), environment={"CHANGEOVER_FAULT": "shipped:2"}
    )
    assert interrupted.returncode == -9
    again = await asyncio.to_thread(start, legacy, tmp_path)
    try:
        await settled(again.database)
        created = [draft for draft in drafts(again.database) if draft.type == "session-created"]
    finally:
        await asyncio.to_thread(stop, again.process, grace=60)

    assert [draft.data["model"] for draft in created] == ["m0", "m1", "m2"]
    assert not spool(again).exists()


def serve(proxy: ProxyProcess, legacy: Legacy, folder: Path) -> list[str]:
    address = f"http://127.0.0.1:{legacy.port}"
    options = ["--legacy", address, "--contract", str(folder / "contract.toml"), "--database", proxy.database]
    return ["serve", *options, "--port", "0", "--admin-port", "0", "--initial-stage", "dualwrite"]


async def test_a_lost_call_in_the_spool_is_resolved_when_the_log_is_back(proxy: ProxyProcess, legacy: Legacy) -> None:
    session = (await call(proxy, "session.create", CREATE)).json()["result"]["data"]["id"]
    with full_disk(proxy):
        lost = await call(proxy, "session.updateTitle", {"sessionId": session, "title": "lost"}, "reset-after-commit")
    await until(lambda: not spool(proxy).exists())
    settlements = await settled(proxy.database)

    assert lost.status_code == 502
    assert settlements[-1].outcome is Outcome.APPLIED
    assert drafts(proxy.database)[-1].data["title"] == "lost"


async def test_nobody_overtakes_a_call_in_doubt_that_is_in_the_spool(legacy: Legacy, tmp_path: Path) -> None:
    """It may still be applied: who comes next waits, so the events have the order of the legacy's changes."""
    proxy = await asyncio.to_thread(start, legacy, tmp_path, "--response-timeout", "0.2")
    try:
        session = (await call(proxy, "session.create", CREATE)).json()["result"]["data"]["id"]
        with full_disk(proxy):
            late = await call(
                proxy, "session.updateTitle", {"sessionId": session, "title": "late"}, "delay-before-commit:700"
            )
            async with asyncio.TaskGroup() as group:
                title = {"sessionId": session, "title": "next"}
                following = group.create_task(call(proxy, "session.updateTitle", title))
                await until(lambda: len(legacy.audit()) == 2)
                assert not following.done()
                resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await until(lambda: not spool(proxy).exists())
        await settled(proxy.database)
        told = [draft.data["title"] for draft in drafts(proxy.database) if draft.type == "session-title-updated"]
    finally:
        await asyncio.to_thread(stop, proxy.process, grace=60)

    assert (late.status_code, following.result().status_code) == (504, 200)
    assert told == ["late", "next"]
    assert fields(proxy.database, "session", session)["title"] == "next"  # type: ignore[index]


async def test_a_create_in_doubt_is_not_taken_for_one_whose_event_is_still_in_the_spool(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    with full_disk(proxy):
        for number in range(4):
            await call(proxy, "session.create", {**CREATE, "model": f"lost-{number}"}, "error-before-commit")
            await call(proxy, "session.create", {**CREATE, "model": f"made-{number}"})
    await until(lambda: not spool(proxy).exists())
    settlements = await settled(proxy.database)

    told = {intent.input["model"]: intent.outcome for intent in settlements}
    assert told == {f"lost-{n}": Outcome.NOT_APPLIED for n in range(4)} | {
        f"made-{n}": Outcome.APPLIED for n in range(4)
    }
    assert [draft.data["model"] for draft in drafts(proxy.database)] == [f"made-{n}" for n in range(4)]


async def test_a_log_that_fails_between_the_intent_and_the_outcome_keeps_the_client_waiting_or_tells_it(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    """Fail closed: no success before it is durable. The doubt is resolved when the log is back."""
    toggle = {"ruleId": "concise", "enabled": True}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(call(proxy, "rules.toggle", toggle, "delay-after-commit:1500"))
        await until(lambda: len(legacy.audit()) == 1)
        with full_disk(proxy):
            answer = await running
    settlements = await settled(proxy.database)

    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (504, "GATEWAY_TIMEOUT")
    assert [intent.outcome for intent in settlements] == [Outcome.APPLIED]
    assert [draft.type for draft in drafts(proxy.database)] == ["rule-toggled"]


async def test_a_log_that_fails_after_the_intent_spools_the_outcome_of_a_phase_that_fails_open(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(call(proxy, "session.create", CREATE, "delay-after-commit:1500"))
        await until(lambda: len(legacy.audit()) == 1)
        with full_disk(proxy):
            answer = await running
            assert spool(proxy).exists()
    await until(lambda: not spool(proxy).exists())

    assert answer.status_code == 200
    assert [intent.outcome for intent in intents(proxy.database)] == [Outcome.APPLIED]
    assert [draft.type for draft in drafts(proxy.database)] == ["session-created"]


async def test_a_mutation_without_a_rule_is_never_refused_for_the_logs_sake(
    proxy: ProxyProcess, legacy: Legacy
) -> None:
    with full_disk(proxy):
        answer = await call(proxy, "agents.select", {"agentId": "coder"})
        counted = (await status(proxy))["not_mirrored"]

    assert answer.status_code == 200
    assert [row.procedure for row in legacy.audit()] == ["agents.select"]
    assert counted["log_unavailable"] == 1
