"""The procedures that the proxy adds to the API, whatever carries them.

    events.subscribe({pattern | channel | channels, types?, fromCursor?, replayLast?})      subscription
    events.subscribeToSession({sessionId, fromCursor?, replayLast?})                        subscription
    events.subscribeToAllSessions({fromCursor?, replayLast?})                               subscription
    events.getChannelInfo({channel})                                                        query
    events.snapshot({entity, key?, next?, at?})                                             query
    events.publish({channel, type, payload, id?, expectedPosition?})                        mutation

The namespace is the contract's. An item of a subscription is tracked: its id is the cursor, its data the stored event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from proxy.subscriptions.feed import Feed, Unavailable
from proxy.subscriptions.plain import conflict_told, reset_told
from proxy.subscriptions.publish import IdTaken, Publisher, PublishRefused, published_told, read_publication
from proxy.subscriptions.shapes import stored_event
from proxy.subscriptions.snapshot import Snapshots, UnknownEntity
from proxy.subscriptions.visibility import Credentials, SubscriberSight, Visibility
from proxy.subscriptions.wishes import Why, Wish, WishRefused, read_cursor, read_patterns, wish_of_input
from proxy.trpc.errors import error_shape
from proxy.trpc.inputs import Input, Malformed
from proxy.trpc.transformers import Transformer
from proxy.trpc.values import UNDEFINED
from shadow.contract import Answerer, Contract
from shadow.errors import LogUnavailable, PositionConflict
from shadow.events import Cursor, Draft, Event
from shadow.json import Json

Kind: TypeAlias = Literal["query", "mutation", "subscription"]

KINDS: Final[Mapping[str, Kind]] = {
    "subscribe": "subscription",
    "subscribeToSession": "subscription",
    "subscribeToAllSessions": "subscription",
    "getChannelInfo": "query",
    "snapshot": "query",
    "publish": "mutation",
}
"""What the proxy answers, by the name after the namespace."""

RESET_CHANNEL = "app:subscription"
SESSION = "session:"


class Refusal(Exception):
    """A call that fails; `code` is tRPC's, `facts` go into the error's data."""

    def __init__(self, code: str, message: str, facts: Mapping[str, Json] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.facts = dict(facts or {})

    def shape(self, path: str) -> dict[str, Json]:
        """Return the error as tRPC shapes it, before any transformer."""
        shape = error_shape(self.code, str(self), path=path)
        shape["data"] = {**shape["data"], **self.facts}
        return shape


class ChannelLog(Protocol):
    """What the overlay needs of the log; both methods block."""

    def count(self, channel: str) -> int:
        """Return how many events a channel has."""

    def latest(self, patterns: Sequence[str], count: int) -> list[Event]:
        """Return the last events of some patterns, oldest first."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The procedures of one API."""

    contract: Contract
    transformer: Transformer
    feed: Feed
    visibility: Visibility
    publisher: Publisher
    snapshots: Snapshots
    log: ChannelLog

    @property
    def prefix(self) -> str:
        """The namespace with its dot."""
        return self.contract.overlay.namespace + "."

    @property
    def answers(self) -> bool:
        """Whether the proxy answers at all: the contract may leave the namespace to the legacy."""
        return self.contract.overlay.answered_by is Answerer.PROXY

    def kind(self, path: str) -> Kind | None:
        """Return what kind of procedure the proxy answers under `path`; None when it is not the proxy's."""
        if not self.answers or not path.startswith(self.prefix):
            return None
        return KINDS.get(path[len(self.prefix) :])

    def sight(self, credentials: Credentials) -> SubscriberSight:
        """Return what a subscriber may see."""
        return self.visibility.sight(credentials)

    async def wish(
        self,
        path: str,
        given: Input,
        sight: SubscriberSight,
        *,
        last_event_id: str | None = None,
    ) -> Wish:
        """Read what a subscription asks for; raises `Refusal`."""
        plain = _plain(path, given)
        try:
            wish = wish_of_input(plain, patterns=self._patterns(path, plain), last_event_id=last_event_id)
            refused = await sight.refusal(wish.patterns)
        except WishRefused as error:
            raise Refusal("BAD_REQUEST", str(error)) from None
        except Unavailable as error:
            raise Refusal("SERVICE_UNAVAILABLE", str(error)) from None
        if refused is not None:
            raise Refusal(*refused)
        return wish

    def _patterns(self, path: str, given: Json) -> tuple[str, ...] | None:
        match path[len(self.prefix) :]:
            case "subscribeToAllSessions":
                return (SESSION + "*",)
            case "subscribeToSession":
                session = given.get("sessionId") if isinstance(given, dict) else None
                if not isinstance(session, str) or not session or session.endswith("*"):
                    raise Refusal("BAD_REQUEST", "sessionId names a session, as in {sessionId: 's1'}")
                return read_patterns([SESSION + session])
        return None

    async def call(self, path: str, given: Input, sight: SubscriberSight) -> Json:
        """Answer a query or a mutation; raises `Refusal`."""
        plain = _plain(path, given)
        fields = plain if isinstance(plain, dict) else {}
        try:
            match path[len(self.prefix) :]:
                case "getChannelInfo":
                    return await self._channel_info(fields, sight)
                case "snapshot":
                    return await self._snapshot(fields, sight)
                case "publish":
                    return await self._publish(plain, sight)
        except (WishRefused, PublishRefused, UnknownEntity) as error:
            raise Refusal("BAD_REQUEST", str(error)) from None
        except IdTaken as error:
            raise Refusal("CONFLICT", str(error)) from None
        except PositionConflict as conflict:
            told = conflict_told(conflict, self.feed.epoch)
            facts = {"position": told["position"], "cursor": told["cursor"]}
            raise Refusal("CONFLICT", str(conflict), facts) from None
        except (Unavailable, LogUnavailable) as error:
            raise Refusal("SERVICE_UNAVAILABLE", str(error)) from None
        raise Refusal("METHOD_NOT_SUPPORTED", f"{path} is a subscription")

    async def _channel_info(self, fields: Mapping[str, Json], sight: SubscriberSight) -> Json:
        channel = fields.get("channel")
        if not isinstance(channel, str) or channel.endswith("*"):
            raise Refusal("BAD_REQUEST", "channel names one channel, as in {channel: 'session:s1'}")
        read_patterns([channel])
        if not await sight.sees_channel(channel):
            raise Refusal("FORBIDDEN", f"{channel} is not shown to you")
        head = self.feed.head
        count = await asyncio.to_thread(self.log.count, channel)
        latest = await asyncio.to_thread(self.log.latest, (channel,), 1)
        last = latest[0] if latest else None
        return {
            "channel": channel,
            "events": count,
            "cursor": str(head),
            "last": None if last is None else stored_event(last.draft, last.position),
            "subscribers": self.feed.followers_of(channel),
        }

    async def _snapshot(self, fields: Mapping[str, Json], sight: SubscriberSight) -> Json:
        at = fields.get("at")
        if isinstance(at, str):
            read = read_cursor(at)
            at = read.position if isinstance(read, Cursor) else read
        key, after, entity = fields.get("key"), fields.get("next"), fields.get("entity")
        return await self.snapshots.take(
            entity if isinstance(entity, str) else "",
            sight,
            key=key if isinstance(key, str) else None,
            after=after if isinstance(after, str) else None,
            at=at if isinstance(at, int) and not isinstance(at, bool) else None,
        )

    async def _publish(self, given: Json, sight: SubscriberSight) -> Json:
        publication = read_publication(given, self.feed.epoch)
        self.publisher.rule(publication)
        if not await sight.sees_channel(publication.channel):
            raise Refusal("FORBIDDEN", f"{publication.channel} is not shown to you")
        return published_told(await self.publisher.publish(publication))

    def reset(self, why: Why, cursor: Cursor) -> dict[str, Json]:
        """Return the item that tells a subscriber to load the state again; it stands in no log."""
        told = reset_told(why, cursor) | {"snapshot": self.prefix + "snapshot"}
        draft = Draft(f"reset-{cursor}", RESET_CHANNEL, "reset", self.publisher.clock(), told)
        return stored_event(draft, cursor.position)


def _plain(path: str, given: Input) -> Json:
    if isinstance(given, Malformed):
        raise Refusal("BAD_REQUEST", f"the input of {path} cannot be read: {given.reason}")
    return None if given is UNDEFINED else given
