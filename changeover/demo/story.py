"""What the demo tells, and whether all of it was true."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from changeover.demo.programs import EXAMPLES, ROOT, Clients, Program, Stage, clients, finished, stage
from changeover.errors import UserError
from changeover.output import bold, say
from shadow import json
from shadow.json import Json

WIDTH = 47


@dataclass(slots=True)
class Told:
    """What was claimed on the screen, and whether it held."""

    claims: list[tuple[str, bool]] = field(default_factory=list)

    def claim(self, sentence: str, *, holds: bool) -> None:
        """Say a sentence with the sign of its truth."""
        self.claims.append((sentence, holds))
        say(f"  {'✓' if holds else '✗'} {sentence}")

    @property
    def all_true(self) -> bool:
        """Tell whether every claim held."""
        return all(holds for _, holds in self.claims)


def run(*, keep: bool) -> bool:
    """Tell the story; returns whether all of it was true."""
    if not (EXAMPLES / "legacy" / "node_modules").exists():
        raise UserError("the demo's server is not installed; run `make demo`, which installs it")
    with tempfile.TemporaryDirectory(prefix="changeover-demo-") as data:
        return asyncio.run(_tell(Path(data), keep=keep))


async def _tell(data: Path, *, keep: bool) -> bool:
    told = Told()
    async with stage(data) as running:
        say(bold(f"Two clients, one API ({running.legacy}), and Changeover between them ({running.proxy})"))
        await _what_was_there(running, told)
        async with clients(running) as both:
            await _a_day(both, told)
            await _the_log(running, told)
            await _the_proof(running, told)
            say(bold("Everything above was true." if told.all_true else "NOT everything above was true."))
            if keep:
                await _stay(running)
    return told.all_true


async def _what_was_there(running: Stage, told: Told) -> None:
    command = [
        "backfill",
        "--legacy",
        running.legacy,
        "--database",
        running.database,
        "--admin",
        running.admin,
        "--json",
    ]
    status, text = await finished(*command, "--contract", str(EXAMPLES / "contract.toml"))
    imported = sum(kind["imported"] for kind in json.decode(text)) if status == 0 else 0
    told.claim(f"the {imported} things that the API had before are in the log now", holds=imported > 0)


async def _a_day(both: Clients, told: Told) -> None:
    say()
    say(bold(f"{'GUI (httpBatchLink)':<{WIDTH}}TUI (httpLink)"))
    lines: asyncio.Queue[Json] = asyncio.Queue()

    async def listen(client: Program) -> None:
        while True:
            line = await client.line()
            lines.put_nowait(line)
            if line["kind"] in {"done", "failed"}:
                return

    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(client)) for client in (both.gui, both.tui)]
        while not (all(task.done() for task in listening) and lines.empty()):
            try:
                _show(await asyncio.wait_for(lines.get(), 0.2), told)
            except TimeoutError:
                continue
    gui, tui, read = await _lists(both)
    say()
    for session in gui:
        title, model = session.get("title") or "(no title)", session.get("model")
        say(f"  {title + ' · ' + str(model):<{WIDTH - 2}}  {'the same' if session in tui else 'MISSING'}")
    told.claim("both clients show the same sessions, by events alone", holds=gui == tui)
    told.claim("and they are those of the API itself", holds=gui == read)


def _show(line: Json, told: Told) -> None:
    column = 0 if line["client"] == "gui" else WIDTH
    if line["kind"] == "did":
        say(" " * column + f"→ {line['what']}")
    elif line["kind"] == "failed":
        told.claim(f"{line['client']}: {line['what']}: {line['error']}", holds=False)


async def _lists(both: Clients) -> tuple[Json, Json, Json]:
    """Ask both clients for their live lists, until the two have seen the last event, and one for the API's own."""
    lists: list[Json] = []
    for _ in range(100):
        lists = []
        for client in (both.gui, both.tui):
            client.tell("sessions")
            lists.append(await client.until(lambda line: line["kind"] == "sessions"))
        if lists[0]["position"] == lists[1]["position"]:
            break
        await asyncio.sleep(0.1)
    both.gui.tell("read")
    read = await both.gui.until(lambda line: line["kind"] == "read")
    return _sorted(lists[0]["sessions"]), _sorted(lists[1]["sessions"]), _sorted(read["sessions"])


def _sorted(sessions: Json) -> Json:
    return sorted(sessions, key=lambda session: str(session["id"]))


async def _the_log(running: Stage, told: Told) -> None:
    say()
    say(bold("The log"))
    _, tail = await finished("events", "tail", "-n", "5", "--json", "--database", running.database)
    for line in tail.splitlines():
        event = json.decode(line)
        say(f"  {event['position']:>4}  {event['type']:<24} {event['channel']}")
    status, verified = await finished("events", "verify", "--database", running.database)
    told.claim(verified.strip(), holds=status == 0)
    contract = str(EXAMPLES / "contract.toml")
    _, coverage = await finished("contract", "coverage", "--contract", contract, "--database", running.database)
    told.claim(coverage.splitlines()[-1], holds=": 100.0%" in coverage)


async def _the_proof(running: Stage, told: Told) -> None:
    say()
    say(bold("The proof"))
    command = ["reconcile", "--legacy", running.legacy, "--database", running.database, "--admin", running.admin]
    command += ["--contract", str(EXAMPLES / "contract.toml"), "--format", "json"]
    status, text = await finished(*command)
    report = json.decode(text)
    checked = sum(scope["planned"] for scope in report["scopes"])
    told.claim(f"reconcile: {checked} entities compared exactly, {len(report['findings'])} differ", holds=status == 0)
    session = (await _first_session(running.legacy))["id"]
    await _rename_behind_the_proxy(running.legacy, session)
    status, text = await finished(*command)
    for finding in json.decode(text)["findings"]:
        told.claim(
            f"a rename behind the proxy's back is caught: {finding['entity']} {finding['key']} {_paths(finding)}",
            holds=status == 1 and finding["key"] == session and "title" in _paths(finding),
        )
    if status != 1:
        told.claim("a rename behind the proxy's back is caught", holds=False)


def _paths(finding: Json) -> str:
    return ", ".join(difference["path"] for difference in finding["differences"])


async def _first_session(legacy: str) -> Json:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{legacy}/trpc/session.getRecent", params={"input": '{"limit":1}'})
    return answer.json()["result"]["data"]["sessions"][0]


async def _rename_behind_the_proxy(legacy: str, session: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        renamed = await http.post(
            f"{legacy}/trpc/session.updateTitle", json={"sessionId": session, "title": "Changed behind your back"}
        )
        renamed.raise_for_status()


async def _stay(running: Stage) -> None:
    say()
    say(f"API through the proxy  {running.proxy}/trpc")
    say(f"events                 {running.proxy}/_changeover/events?channel=*")
    say(f"admin                  {running.admin}/status   (changeover status --admin {running.admin})")
    say(f"the API itself         {running.legacy}/trpc")
    say(f"log                    {running.database}")
    say(
        f"clients                node {(EXAMPLES / 'clients' / 'tui.mjs').relative_to(ROOT)} --api {running.proxy}/trpc"
    )
    say("Ctrl-C stops everything.")
    await asyncio.Event().wait()
