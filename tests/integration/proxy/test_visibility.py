"""Who sees what: open channels, channels behind a token, channels that the legacy is asked about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from proxy.server import bind, serving
from proxy.subscriptions.feed import Unavailable
from proxy.subscriptions.visibility import OUTLIVED, REMEMBERED, Credentials, SubscriberSight, Visibility
from proxy.trpc.transformers import NONE
from proxy.upstream import Upstream
from shadow.contract import parse
from shadow.events import Draft, Effect
from tests.support.feeds import CONTRACT, running_feed, sse
from tests.support.node_client import Client, Link, NodeClient, subscription

RULES = (
    CONTRACT
    + """
[channel."session:*"]
see = { query = "session.getById", input = "{'sessionId': suffix}" }

[channel."config:*"]
see = "token"
"""
)
TOKEN = "t0p-s3cret"


@dataclass(slots=True)
class Owners:
    """A legacy that shows a session to its owner; who asks says so in `x-user` or in the connection parameters."""

    url: str = ""
    owners: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        query = parse_qs(scope["query_string"].decode())
        session = json.loads(query["input"][0])["sessionId"]
        params = json.loads(query.get("connectionParams", ["{}"])[0])
        user = dict(scope["headers"]).get(b"x-user", b"").decode() or params.get("user", "")
        assert scope["path"] == "/trpc/session.getById"
        self.asked.append((user, session))
        data = {"id": session} if self.owners.get(session) == user else None
        body = json.dumps({"result": {"data": data}}).encode()
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": body if self.status == 200 else b"{}"})


@asynccontextmanager
async def legacy(**owners: str) -> AsyncIterator[Owners]:
    app = Owners(owners=owners)
    async with serving(app, bind("127.0.0.1", 0), grace=1) as server:
        app.url = f"http://127.0.0.1:{server.port}"
        yield app


async def test_a_session_is_seen_by_its_owner_alone_replayed_and_live(tmp_path: Path) -> None:
    async with legacy(a="ann", b="bob") as owners, running_feed(tmp_path / "log.db", RULES, legacy=owners.url) as feed:
        await feed.say_all([("session:a", "one", {}), ("session:b", "two", {}), ("app:x", "three", {})])
        url = f"{feed.url}/_changeover/events"
        async with sse(url, headers={"x-user": "ann"}, after="0") as ann, sse(url, after="0") as nobody:
            replayed = await ann.items(2)
            await feed.say_all([("session:b", "four", {}), ("session:a", "five", {}), ("app:x", "six", {})])
            live = await ann.items(2)
            open_only = await nobody.items(2)

    assert [item["type"] for item in replayed + live] == ["one", "three", "five", "six"]
    assert [item["type"] for item in open_only] == ["three", "six"]
    assert sorted(owners.asked) == [("", "a"), ("", "b"), ("ann", "a"), ("ann", "b")]


@pytest.mark.parametrize("link", ["httpSubscriptionLink", "wsLink"])
async def test_connection_parameters_count_as_credentials(tmp_path: Path, node_client: NodeClient, link: Link) -> None:
    async with legacy(a="ann") as owners, running_feed(tmp_path / "log.db", RULES, legacy=owners.url) as feed:
        await feed.say("session:a")
        wish = subscription("events.subscribeToSession", {"sessionId": "a", "replayLast": 1}, take=1)
        url = f"{feed.url}/trpc"
        ann = await node_client.call(Client(url, link, connection_params={"user": "ann"}), wish)
        bob = await node_client.call(Client(url, link, connection_params={"user": "bob"}), wish)

    assert len(ann.items) == 1
    assert bob.error is not None
    assert bob.error.code == "FORBIDDEN"


@pytest.mark.parametrize(
    "given",
    [{"headers": {"authorization": f"Bearer {TOKEN}"}}, {"token": TOKEN}],
    ids=["as a header", "in the address"],
)
async def test_a_channel_behind_the_token_is_seen_by_who_has_it(tmp_path: Path, given: dict[str, Any]) -> None:
    async with running_feed(tmp_path / "log.db", RULES, token=TOKEN) as feed:
        await feed.say_all([("config:ai", "one", {}), ("app:x", "two", {})])
        url = f"{feed.url}/_changeover/events"
        async with sse(url, after="0") as everybody, sse(url, after="0", **given) as knowing:
            assert (await everybody.item())["type"] == "two"
            assert [item["type"] for item in await knowing.items(2)] == ["one", "two"]
        async with httpx.AsyncClient(trust_env=False) as http:
            refused = await http.get(url, params={"channel": "config:*"})
            wrong = await http.get(url, params={"channel": "config:ai", "token": "guess"})

    assert (refused.status_code, wrong.status_code) == (401, 401)
    assert "Authorization: Bearer" in refused.json()["error"]


@pytest.mark.parametrize(("link", "version"), [("httpSubscriptionLink", 11), ("wsLink", 11), ("wsLink", 10)])
async def test_a_stock_client_shows_the_token_as_it_can(
    tmp_path: Path, node_client: NodeClient, link: Link, version: Any
) -> None:
    async with running_feed(tmp_path / "log.db", RULES, token=TOKEN) as feed:
        await feed.say("config:ai")
        wish = subscription("events.subscribe", {"pattern": "config:*", "replayLast": 1}, take=1)
        url = f"{feed.url}/trpc"
        by_header = Client(url, link, version, headers={"authorization": f"Bearer {TOKEN}"})
        seen = [await node_client.call(by_header, wish)]
        if version == 11:
            seen.append(await node_client.call(Client(url, link, connection_params={"token": TOKEN}), wish))
        without = await node_client.call(Client(url, link, version), wish)

    assert all(len(result.items) == 1 for result in seen)
    assert without.error is not None
    assert without.error.code == "UNAUTHORIZED"


async def test_what_nobody_can_say_is_neither_shown_nor_skipped(tmp_path: Path) -> None:
    """While the legacy cannot be asked, a reader is sent away with the cursor before what it may or may not see."""
    async with legacy(a="ann") as owners, running_feed(tmp_path / "log.db", RULES, legacy=owners.url) as feed:
        owners.status = 503
        await feed.say_all([("app:x", "one", {}), ("session:a", "two", {})])
        url = f"{feed.url}/_changeover/events"
        async with sse(url, headers={"x-user": "ann"}, after="0") as reader:
            await reader.next()
            sent_away = await reader.next()
        owners.status = 200
        cursor = json.loads(sent_away.data)["cursor"]
        async with sse(url, headers={"x-user": "ann"}, after=cursor) as again:
            items = await again.items(2)

    assert (sent_away.event, json.loads(sent_away.data)["reason"]) == ("cut", "unavailable")
    assert sent_away.retry == 5000
    assert [item["type"] for item in items] == ["one", "two"]


async def test_what_may_not_be_seen_may_not_be_published_on_or_read_as_state_either(tmp_path: Path) -> None:
    rules = RULES.replace('see = "token"', 'see = "token"\npublish = [{ event = "notice", required = [] }]')
    async with (
        legacy(n2="ann") as owners,
        running_feed(tmp_path / "log.db", rules, token=TOKEN, legacy=owners.url) as feed,
    ):
        await feed.put("n1", title="A")
        await feed.put("n2", title="B")
        event = {"channel": "config:ai", "type": "notice", "payload": {}}
        async with httpx.AsyncClient(trust_env=False) as http:
            refused = await http.post(f"{feed.url}/_changeover/events", json=event)
            allowed = await http.post(
                f"{feed.url}/_changeover/events", json=event, headers={"authorization": f"bearer {TOKEN}"}
            )
            state = await http.get(
                f"{feed.url}/_changeover/snapshot", params={"entity": "note"}, headers={"x-user": "ann"}
            )

    assert (refused.status_code, allowed.status_code) == (403, 201)
    assert [item["key"] for item in state.json()["items"]] == ["n2"]


class Clock:
    """A clock that goes when a test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def sight(owners: Owners, clock: Clock, user: str) -> AsyncIterator[SubscriberSight]:
    upstream = Upstream(owners.url)
    visibility = Visibility(parse(RULES, "contract.toml"), upstream, NONE, None, clock)
    try:
        yield visibility.sight(Credentials.of([(b"x-user", user.encode())]))
    finally:
        await upstream.close()


def told(effect: Effect = Effect.NONE) -> Draft:
    return Draft("e1", "session:a", "said", 1, {}, effect=effect)


async def test_an_answer_counts_for_a_while_and_then_is_asked_for_again() -> None:
    clock = Clock()
    async with legacy(a="ann") as owners, sight(owners, clock, "ann") as eyes:
        assert await eyes.sees(told())
        owners.owners["a"] = "bob"
        clock.now += REMEMBERED
        assert await eyes.sees(told())
        clock.now += 0.1
        assert not await eyes.sees(told())


async def test_what_can_be_told_at_once_is_no_more_than_what_the_legacy_has_said_lately() -> None:
    clock = Clock()
    async with (
        legacy(a="ann") as owners,
        sight(owners, clock, "ann") as ann,
        sight(owners, clock, "bob") as bob,
    ):
        assert (ann.known(told()), bob.known(told())) == (None, None)
        await ann.sees(told())
        await bob.sees(told())
        assert (ann.known(told()), bob.known(told())) == (True, False)
        assert len(owners.asked) == 2
        clock.now += REMEMBERED + 0.1
        assert (ann.known(told()), bob.known(told())) == (None, None)
        assert not ann.known(Draft("e2", "config:ai", "said", 1, {}))
        assert ann.known(Draft("e3", "app:demo", "said", 1, {}))


async def test_while_the_legacy_is_away_its_last_word_counts_for_longer_but_not_for_ever() -> None:
    clock = Clock()
    async with legacy(a="ann") as owners, sight(owners, clock, "ann") as eyes:
        assert await eyes.sees(told())
        owners.status = 500
        clock.now += OUTLIVED
        assert await eyes.sees(told())
        clock.now += 1
        with pytest.raises(Unavailable):
            await eyes.sees(told())


async def test_the_end_of_a_session_is_seen_by_who_could_see_it_before() -> None:
    """The legacy no longer knows whose it was."""
    clock = Clock()
    async with (
        legacy(a="ann") as owners,
        sight(owners, clock, "ann") as ann,
        sight(owners, clock, "bob") as bob,
    ):
        assert await ann.sees(told())
        del owners.owners["a"]
        clock.now += REMEMBERED + 1
        assert await ann.sees(told(Effect.DELETE))
        assert not await ann.sees(told())
        assert not await bob.sees(told(Effect.DELETE))


def test_credentials_never_show_themselves() -> None:
    held = Credentials.of([(b"authorization", b"Bearer abc")], {"password": "xyz"})
    assert "abc" not in repr(held)
    assert "xyz" not in repr(held)
    assert b"abc" not in held.digest()
    assert held.token == "abc"
