"""The example contract says of the example API what the API itself shows: held against the real server."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from shadow import json
from shadow.contract import Answer, Rejection, load
from shadow.events import Draft, EntityKey
from shadow.json import Json
from shadow.state import fold
from tests.support.legacy import Legacy

CONTRACT = load(Path(__file__).parents[3] / "examples" / "contract.toml")
NEW = {"provider": "anthropic", "model": "m1"}


@dataclass
class Mirror:
    """The least that mirrors: calls the legacy, decides, folds."""

    http: httpx.AsyncClient
    base: str
    states: dict[EntityKey, dict[str, Json] | None] = field(default_factory=dict)
    ids: Iterable[int] = field(default_factory=itertools.count)

    async def query(self, procedure: str, input_: Json) -> Any:
        given = {} if input_ is None else {"input": json.encode(input_).decode()}
        answer = await self.http.get(f"{self.base}/{procedure}", params=given)
        return answer.raise_for_status().json()["result"].get("data")

    async def mutate(self, procedure: str, input_: Json) -> Any:
        rule = CONTRACT.mutations[procedure]
        own = rule.answer(input_, self.states.get, now(), self.new_id)
        output = await self.unmirrored(procedure, input_)
        assert rule.succeeded(input_, output), output
        predicted = {
            key: rule.predict(input_, self.states.get(key), now(), key) for key in self.keys(procedure, input_)
        }
        self.fold(rule.decide(input_, output, self.states.get, now(), self.new_id, keys_of=self.known))
        for key, state in predicted.items():
            assert state == self.states[key], f"{procedure} predicted {key}"
        self.compare_answer(procedure, own, output)
        return output

    async def unmirrored(self, procedure: str, input_: Json) -> Any:
        answer = await self.http.post(f"{self.base}/{procedure}", json=input_)
        return answer.raise_for_status().json()["result"].get("data")

    def keys(self, procedure: str, input_: Json) -> tuple[EntityKey, ...]:
        keys = CONTRACT.mutations[procedure].keys_before(input_, now())
        return keys if procedure != "config.save" else ()

    def compare_answer(self, procedure: str, own: Answer | Rejection | None, output: Any) -> None:
        if own is None:
            return
        assert isinstance(own, Answer)
        answers = CONTRACT.mutations[procedure].answers
        assert answers is not None
        left = {key: value for key, value in (own.output or {}).items() if key not in answers.varies}
        right = {key: value for key, value in (output or {}).items() if key not in answers.varies}
        assert left == right

    def fold(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            if draft.entity is not None:
                self.states[draft.entity] = fold(self.states.get(draft.entity), draft.effect, draft.change)

    def known(self, entity: str) -> list[str]:
        return [key.key for key, state in self.states.items() if key.entity == entity and state is not None]

    def new_id(self) -> str:
        return f"event-{next(iter(self.ids))}"

    async def check(self) -> None:
        """Compare every state with what the legacy shows, and see that it shows no entity beyond them."""
        for key, state in self.states.items():
            entity = CONTRACT.entities[key.entity]
            if entity.get is None:
                continue
            item = entity.get.item_of(await self.query(entity.get.query, entity.get.input_for(key.key)), key.key)
            shown = None if item is None else entity.comparable(entity.fields_of(item, key.key))
            masks = {mask.field: mask for mask in entity.masks}
            kept = None if state is None else entity.comparable(state)
            if shown is not None and kept is not None:
                for name in masks.keys() & kept.keys():
                    kept[name] = kept[name] if shown.get(name) == kept[name] else masks[name].apply(str(kept[name]))
            assert shown == kept, key
        for kind in ("session", "provider"):
            assert await self.listed(kind) == set(self.known(kind))

    async def listed(self, kind: str) -> set[str]:
        entity = CONTRACT.entities[kind]
        assert entity.list is not None
        found: set[str] = set()
        cursor: Json = None
        while True:
            output = await self.query(entity.list.query, entity.list.input_for(cursor))
            found |= {entity.key_of(item.value, item.name) for item in entity.list.items_of(output)}
            cursor = entity.list.cursor_after(output)
            if cursor is None:
                return found


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(name="mirror")
async def _mirror(legacy: Legacy) -> AsyncIterator[Mirror]:
    async with httpx.AsyncClient() as http:
        yield Mirror(http, legacy.url)


async def test_what_sessions_add_up_to_is_what_the_legacy_shows(mirror: Mirror) -> None:
    first = await mirror.mutate("session.create", NEW)
    second = await mirror.mutate("session.create", {**NEW, "agentId": "planner", "enabledRuleIds": ["concise"]})
    await mirror.check()
    changes: list[tuple[str, dict[str, Json]]] = [
        ("session.updateTitle", {"title": "Tea"}),
        ("session.updateModel", {"model": "m2"}),
        ("session.updateProvider", {"provider": "openai", "model": "m3"}),
        ("session.updateRules", {"enabledRuleIds": ["concise", "explain"]}),
    ]
    for procedure, change in changes:
        await mirror.mutate(procedure, {"sessionId": first["id"], **change})
        await mirror.check()
    await mirror.mutate("session.updateTitle", {"sessionId": first["id"], "title": ""})
    await mirror.mutate("session.delete", {"sessionId": second["id"]})
    await mirror.check()


async def test_changes_to_a_session_that_is_not_there_leave_it_so(mirror: Mirror) -> None:
    await mirror.mutate("session.updateTitle", {"sessionId": "nobody", "title": "Tea"})
    await mirror.mutate("session.delete", {"sessionId": "nobody"})

    await mirror.check()


async def test_a_message_without_a_session_makes_one(mirror: Mirror) -> None:
    made = await mirror.mutate("message.add", {**NEW, "sessionId": None, "content": "Hi"})
    await mirror.mutate("message.add", {"sessionId": made["sessionId"], "role": "assistant", "content": "Hello"})

    await mirror.check()
    assert len(mirror.known("message")) == 2


async def test_what_settings_add_up_to_is_what_the_legacy_shows(mirror: Mirror) -> None:
    key = "sk-ant-0123456789"
    for provider, config in [
        ("anthropic", {"apiKey": key, "baseUrl": "https://x"}),
        ("own", {"apiKey": key}),
        ("b", {}),
    ]:
        await mirror.mutate("config.updateProviderConfig", {"providerId": provider, "config": config})
    await mirror.mutate("config.updateProviderConfig", {"providerId": "anthropic", "config": {"apiKey": key}})
    await mirror.mutate("config.selectModel", {"providerId": "own", "model": "m"})
    await mirror.mutate("config.removeProvider", {"providerId": "b"})
    await mirror.check()
    saved = {"providers": {"own": {"apiKey": "sk-other-0123456"}, "new": {}}, "defaultProvider": "own"}
    await mirror.mutate("config.save", {"config": saved})
    await mirror.check()


async def test_rules_and_agents_add_up_to_what_the_legacy_shows(mirror: Mirror) -> None:
    await mirror.mutate("rules.toggle", {"ruleId": "explain", "enabled": True})
    await mirror.mutate("rules.toggle", {"ruleId": "concise", "enabled": False})
    await mirror.mutate("agents.select", {"agentId": "reviewer"})

    await mirror.check()


async def test_a_logical_failure_is_no_success(mirror: Mirror) -> None:
    input_ = {"providerId": "nobody", "model": "m"}

    assert not CONTRACT.mutations["config.selectModel"].succeeded(
        input_, await mirror.unmirrored("config.selectModel", input_)
    )


@pytest.mark.parametrize(
    ("procedure", "input_"),
    [
        ("session.create", NEW),
        ("message.add", {**NEW, "content": "Hi"}),
    ],
)
async def test_what_a_lost_call_made_is_found(mirror: Mirror, procedure: str, input_: dict[str, Json]) -> None:
    session = await mirror.mutate("session.create", {"provider": "other", "model": "other"})
    if procedure == "message.add":
        input_ = {**input_, "sessionId": session["id"]}
    since = now()
    output = await mirror.unmirrored(procedure, input_)
    find = CONTRACT.mutations[procedure].find
    assert find is not None

    (found,) = find.outputs(input_, await mirror.query(find.query, find.input_for(input_)), since)

    rule = CONTRACT.mutations[procedure]
    decided = [rule.decide(input_, answer, mirror.states.get, since, lambda: "id") for answer in (output, found)]
    assert decided[0] == decided[1]


async def test_what_a_stream_does_is_told_by_its_items(mirror: Mirror) -> None:
    input_ = {**NEW, "content": "Make me tea"}
    tap = CONTRACT.taps["message.streamResponse"]
    types: list[tuple[str, bool]] = []
    request = mirror.http.stream(
        "GET", f"{mirror.base}/message.streamResponse", params={"input": json.encode(input_).decode()}
    )
    async with request as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and '"type"' in line:
                told = tap.decide(input_, json.decode(line[6:]), mirror.states.get, now(), mirror.new_id)
                mirror.fold(tell.draft for tell in told)
                types += [(tell.draft.type, tell.durable) for tell in told]

    await mirror.check()
    assert list(dict.fromkeys(types)) == [
        ("session-created", True),
        ("message-added", True),
        ("answer-progressed", True),
        ("text-delta", False),
        ("title-delta", False),
        ("session-title-updated", True),
    ]
