"""Clients that write through the proxy, lose patience, try again, and remember exactly what they heard."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from shadow.json import Json
from tests.crash.facts import Said
from tests.crash.script import Ask, Step

GIVE_UP = 20.0
"""Seconds after which even a patient client leaves."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, ready to be sent, and how many events it leads to."""

    token: str
    procedure: str
    input: dict[str, Json]
    events: int = 1


@dataclass(slots=True)
class World:
    """What the clients of one round share."""

    url: str
    round: str
    """Begins every token of the round."""
    serving: Callable[[], Awaitable[None]]
    """Returns when the proxy is there."""
    secret: Callable[[], str]
    """Makes up a secret, and remembers it."""
    sessions: list[str] = field(default_factory=list)
    said: dict[str, Said] = field(default_factory=dict)


async def run_client(world: World, name: int, asks: Sequence[Ask]) -> None:
    """Make the requests one after the other."""
    limits = httpx.Limits(max_keepalive_connections=1)
    async with httpx.AsyncClient(base_url=world.url, timeout=None, trust_env=False, limits=limits) as http:
        for number, ask in enumerate(asks):
            await _ask(world, http, f"{world.round}c{name}n{number}", ask)
            await asyncio.sleep(ask.pause)


async def _ask(world: World, http: httpx.AsyncClient, name: str, ask: Ask) -> None:
    calls = list(calls_of(world, name, ask.steps))
    for attempt in range(ask.tries):
        if attempt and not ask.keyed:
            calls = list(calls_of(world, f"{name}t{attempt}", ask.steps))
        await world.serving()
        headers = {"idempotency-key": name} if ask.keyed else {}
        if ask.fault is not None and attempt == 0:
            headers["x-fault"] = ask.fault
        if await _send(world, http, calls, ask, headers):
            return


async def _send(world: World, http: httpx.AsyncClient, calls: list[Call], ask: Ask, headers: dict[str, str]) -> bool:
    """Send a request once and note what was heard; tells whether all of its calls succeeded."""
    path = "/trpc/" + ",".join(call.procedure for call in calls) + ("?batch=1" if ask.batch else "")
    body: Json = {str(place): call.input for place, call in enumerate(calls)} if ask.batch else calls[0].input
    sent = _now()
    for call in calls:
        _note(world, call, ask, sent=sent, acknowledged=False)
    answers: list[Any] = []
    try:
        async with asyncio.timeout(ask.patience or GIVE_UP):
            answer = await http.post(path, json=body, headers=headers)
        told = answer.json()
        answers = told if isinstance(told, list) else [told] * len(calls)
    except (TimeoutError, httpx.HTTPError, ValueError):
        pass
    answers += [None] * (len(calls) - len(answers))
    heard = [succeeded(one) for one in answers]
    for call, one, success in zip(calls, answers, heard, strict=False):
        _note(world, call, ask, sent=sent, acknowledged=success)
        if success and call.procedure == "session.create":
            world.sessions.append(one["result"]["data"]["id"])
        elif success and call.procedure == "message.add":
            world.sessions.append(one["result"]["data"]["sessionId"])
    return all(heard)


def _note(world: World, call: Call, ask: Ask, *, sent: int, acknowledged: bool) -> None:
    before = world.said.get(call.token)
    world.said[call.token] = Said(
        call.token,
        call.procedure,
        acknowledged or (before is not None and before.acknowledged),
        call.events,
        keyed=ask.keyed,
        sent=before.sent if before else sent,
        heard=_now(),
    )


def succeeded(answer: Any) -> bool:
    """Tell whether an envelope says that the call was done."""
    if not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        return False
    data = answer["result"].get("data")
    return not (isinstance(data, dict) and data.get("success") is False)


def calls_of(world: World, name: str, steps: Sequence[Step]) -> Iterator[Call]:
    """Yield the calls of one request, each on an entity of its own."""
    taken: set[str] = set()
    for place, step in enumerate(steps):
        recent = [session for session in dict.fromkeys(reversed(world.sessions)) if session not in taken][:3]
        session = recent[int(step.pick * len(recent))] if recent else None
        call = call_of(step, f"{name}b{place}", session, world.secret)
        if session is not None and call.input.get("sessionId") == session:
            taken.add(session)
        yield call


def call_of(step: Step, token: str, session: str | None, secret: Callable[[], str]) -> Call:
    """Return what a step asks for; without a session, what needs one makes one."""
    fields: dict[str, Json]
    events = 1
    match step.verb:
        case "title" if session:
            procedure, fields = "session.updateTitle", {"sessionId": session, "title": token}
        case "model" if session:
            procedure, fields = "session.updateModel", {"sessionId": session, "model": token}
        case "move" if session:
            procedure = "session.updateProvider"
            fields = {"sessionId": session, "provider": "anthropic", "model": token}
        case "rules" if session:
            procedure, fields = "session.updateRules", {"sessionId": session, "enabledRuleIds": [token]}
        case "delete" if session:
            procedure, fields = "session.delete", {"sessionId": session}
        case "message" if session:
            procedure, fields = "message.add", {"sessionId": session, "content": token}
        case "first":
            procedure, fields = "message.add", {"provider": "openai", "model": token, "content": token}
            events = 2
        case "provider":
            config: dict[str, Json] = {"apiKey": secret(), "defaultModel": token}
            if step.pick < 0.6:
                procedure, fields = "config.updateProviderConfig", {"providerId": "openai", "config": config}
            elif step.pick < 0.8:
                procedure, fields = "config.removeProvider", {"providerId": "openai"}
            else:
                procedure, fields = "config.save", {"config": {"providers": {"openai": config}}}
                events = 2
        case "rule":
            procedure, fields = "rules.toggle", {"ruleId": "concise", "enabled": step.pick < 0.5}
        case "agent":
            procedure, fields = "agents.select", {"agentId": "coder" if step.pick < 0.5 else "planner"}
        case "selection":
            procedure, fields = "config.selectModel", {"providerId": "openai", "model": token}
        case _:
            procedure, fields = "session.create", {"provider": "openai", "model": token}
    return Call(token, procedure, {**fields, "token": token}, events)


def _now() -> int:
    return time.time_ns() // 1_000_000
