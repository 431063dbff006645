"""The examples of docs/subscriptions.md do what the page says, as they stand there."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from shadow.json import Json
from tests.support.legacy import Legacy
from tests.support.node import ROOT
from tests.support.proxy import ProxyProcess, running_proxy

PAGE = (ROOT / "docs" / "subscriptions.md").read_text()
BLOCKS = [(kind, textwrap.dedent(text)) for kind, text in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)]


def blocks(kind: str, holding: str = "") -> list[str]:
    return [text for each, text in BLOCKS if each == kind and holding in text]


@pytest.fixture(name="proxy")
async def _proxy(legacy: Legacy, tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    async with running_proxy(f"http://127.0.0.1:{legacy.port}", tmp_path / "proxy") as proxy:
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.post(f"{proxy.url}/trpc/session.create", json={"provider": "openai", "model": "gpt-5"})
        yield proxy


def shell(script: str, proxy: ProxyProcess, until: str) -> str:
    """Run a script until its output holds `until`; a stream would never end by itself."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", f"exec {script}"], env={"PROXY": proxy.url, "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line.decode()
            if until in said:
                return said
        raise AssertionError(f"ended without {until!r}: {said}")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's examples use curl")
@pytest.mark.parametrize(
    ("script", "until"),
    [
        (blocks("sh", "last=10")[0], "session-created"),
        (blocks("sh", "Last-Event-ID")[0], '"reason":"foreign"'),
        (blocks("sh", "snapshot")[0], '"items":[{"'),
        (blocks("sh", "POST")[0], '"again":false'),
    ],
    ids=["stream", "reset", "snapshot", "publish"],
)
async def test_the_commands_say_what_the_page_says(proxy: ProxyProcess, script: str, until: str) -> None:
    async with asyncio.timeout(60):
        await asyncio.to_thread(shell, script, proxy, until)


async def test_no_command_of_the_page_is_left_out() -> None:
    assert len(blocks("sh")) == 4


async def test_the_websocket_example_follows(proxy: ProxyProcess) -> None:
    """It runs for ever, so it is ended once its cursor has come to the log's head."""
    (example,) = blocks("python")
    source = "async def example(proxy, cursor, cursors):\n" + textwrap.indent(example, "    ")
    source = source.replace('cursor = told["cursor"] or cursor', 'cursors.append(told["cursor"]); return')
    scope: dict[str, Json] = {"connect": connect, "json": json}
    exec(compile(source, "docs/subscriptions.md", "exec"), scope)
    cursors: list[str] = []
    async with asyncio.timeout(60):
        await scope["example"](proxy.url, "0", cursors)
    assert re.fullmatch(r"[0-9a-f]{6}-\d+", cursors[0])


async def test_the_example_of_an_event_is_what_subscribers_get(proxy: ProxyProcess) -> None:
    (example,) = blocks("json")
    async with httpx.AsyncClient(trust_env=False) as http:
        sessions = (await http.get(f"{proxy.url}/_changeover/snapshot", params={"entity": "session"})).json()
        key = sessions["items"][0]["key"]
        await http.post(f"{proxy.url}/trpc/session.updateTitle", json={"sessionId": key, "title": "Plans"})
        url = f"{proxy.url}/trpc/events.getChannelInfo"
        info = (await http.get(url, params={"input": json.dumps({"channel": f"session:{key}"})})).json()
    event, shown = info["result"]["data"]["last"], json.loads(example)
    assert event.keys() == shown.keys()
    assert event["type"] == shown["type"]
    assert event["payload"] == shown["payload"] | {"sessionId": key}
