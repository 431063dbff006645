"""Exact while everybody writes: no false alarm, and the one real difference found, on the real API."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import httpx

from shadow.json import Json
from tests.support.legacy import Legacy
from tests.support.proxy import changeover, running_proxy


async def call(http: httpx.AsyncClient, procedure: str, wanted: Json) -> Json:
    answer = await http.post(f"/trpc/{procedure}", json=wanted)
    return answer.json().get("result", {}).get("data")


async def write(http: httpx.AsyncClient, seed: int, stop: asyncio.Event, done: list[int]) -> None:
    """Create, rename and delete sessions, and switch rules, as fast as the answers come."""
    chance = random.Random(seed)
    mine: list[str] = []
    while not stop.is_set():
        done[0] += 1
        match chance.choice(["create", "rename", "rename", "model", "rule", "delete"]):
            case "create":
                made = await call(http, "session.create", {"provider": "openai", "model": f"m{seed}"})
                if made is not None:
                    mine.append(made["id"])
            case "rename" if mine:
                wanted = {"sessionId": chance.choice(mine), "title": f"T{done[0]} ü"}
                await call(http, "session.updateTitle", wanted)
            case "model" if mine:
                await call(http, "session.updateModel", {"sessionId": chance.choice(mine), "model": f"m{done[0]}"})
            case "rule":
                await call(http, "rules.toggle", {"ruleId": "explain", "enabled": chance.random() < 0.5})
            case "delete" if len(mine) > 3:
                await call(http, "session.delete", {"sessionId": mine.pop()})


async def test_no_false_alarm_under_load_and_the_real_difference_is_found(legacy: Legacy, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{legacy.port}"
    async with running_proxy(address, tmp_path / "proxy") as proxy:
        where: tuple[str, ...] = (
            "--legacy",
            address,
            "--contract",
            "examples/contract.toml",
            "--database",
            proxy.database,
        )
        where += ("--admin", proxy.admin)
        asked = (*where, "--phase", "sessions", "--phase", "rules", "--format", "json", "--min-coverage", "0")
        async with (
            httpx.AsyncClient(base_url=address, trust_env=False) as behind,
            httpx.AsyncClient(base_url=proxy.url, trust_env=False, timeout=30) as http,
        ):
            victim = (await call(http, "session.create", {"provider": "openai", "model": "gpt-5"}))["id"]
            imported = await asyncio.to_thread(changeover, "backfill", "rules", *where)
            assert imported.returncode == 0, imported.stderr
            stop, done = asyncio.Event(), [0]
            async with asyncio.TaskGroup() as group:
                for seed in range(4):
                    group.create_task(write(http, seed, stop, done))
                quiet = [await asyncio.to_thread(changeover, "reconcile", *asked) for _ in range(2)]
                await call(behind, "session.updateTitle", {"sessionId": victim, "title": "behind"})
                found = await asyncio.to_thread(changeover, "reconcile", *asked)
                stop.set()
            rest = await asyncio.to_thread(changeover, "reconcile", *asked)

    assert done[0] > 50
    for run in quiet:
        report = json.loads(run.stdout)
        assert [f for f in report["findings"] if f["drift"]] == [], run.stdout
        assert report["coverage"]["exact"] >= 1
    for run in (found, rest):
        drift = [finding for finding in json.loads(run.stdout)["findings"] if finding["drift"]]
        assert [(finding["key"], finding["kind"]) for finding in drift] == [(victim, "bypass_write")], run.stdout
    assert json.loads(rest.stdout)["coverage"]["share"] == 1.0
