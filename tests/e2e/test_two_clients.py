"""The demo's promise: two stock clients that know nothing of each other stay in step through the event log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shadow.json import Json
from tests.support.client_program import running_client
from tests.support.legacy import Legacy
from tests.support.proxy import running_proxy


def by_id(sessions: Json) -> dict[str, Json]:
    return {session["id"]: session for session in sessions}


async def test_two_clients_go_through_their_day_and_end_with_the_same_list(legacy: Legacy, tmp_path: Path) -> None:
    """Each waits for what the other did until it sees it in its own live list."""
    async with (
        asyncio.timeout(60),
        running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy,
        running_client("gui", f"{proxy.url}/trpc", tmp_path) as gui,
        running_client("tui", f"{proxy.url}/trpc", tmp_path) as tui,
    ):
        await asyncio.gather(gui.hears("done"), tui.hears("done"))
        if not any(line.get("type") == "session-deleted" for line in tui.heard):
            await tui.sees("session-deleted")
        if not any(line.get("type") == "agent-selected" for line in gui.heard):
            await gui.sees("agent-selected")

        lists = [by_id(await gui.asked("sessions")), by_id(await tui.asked("sessions")), by_id(await gui.asked("read"))]
        assert lists[0] == lists[1] == lists[2]
        assert sorted(session["title"] for session in lists[0].values()) == [
            "Fix the login",
            "Plan the release, with Ana",
        ]
        assert [line["text"] for line in tui.heard if line["kind"] == "answer"] == [
            "You said: What was it? That is noted."
        ]


async def test_a_client_that_only_watches_is_in_step_too(legacy: Legacy, tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy,
        running_client("gui", f"{proxy.url}/trpc", tmp_path, "--watch") as watcher,
    ):
        await watcher.hears("ready")
        async with running_client("tui", f"{proxy.url}/trpc", tmp_path, "--patience", "1"):
            seen = await watcher.sees("session-title-updated")
        assert [session["title"] for session in seen["sessions"]] == ["Fix the login"]
