"""Events that clients put on the stream themselves, as far as the contract lets them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.subscriptions.shapes import stored_event
from shadow import json
from shadow.contract import Contract, Publishable
from shadow.errors import Mendable, PositionConflict
from shadow.events import RETENTION, Cursor, Draft, EntityKey, Event
from shadow.json import Json
from shadow.tail import Tail

LARGEST = 256 * 1024
"""Bytes of an event's data that a client may publish."""

LONGEST_ID = 200
CAUSE = "publish"


class PublishRefused(Mendable):
    """The contract does not let clients publish this; the message says what it lets."""


class IdTaken(Mendable):
    """Another event has this id already."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An event that a client wants to publish.

    The same `id` published again is the same event. With `expected` it is refused when the channel has an event
    after that position.
    """

    channel: str
    type: str
    data: dict[str, Json]
    id: str | None = None
    expected: int | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """A published event; an ephemeral one has no cursor. `again` tells that it had been published before."""

    draft: Draft
    cursor: Cursor | None
    again: bool = False


class PublicLog(Protocol):
    """What publishing needs of the log."""

    @property
    def head(self) -> Cursor:
        """The cursor of the last event."""

    def find(self, id: str) -> Event | None:
        """Return the event with an id; blocks."""

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expected: Mapping[EntityKey, int] | None = None,
        unmoved: Mapping[str, int] | None = None,
    ) -> tuple[Event, ...]:
        """Append events; raises PositionConflict when a channel in `unmoved` has an event after its position."""


def read_publication(given: Json, epoch: str) -> Publication:
    """Read what a client sent; raises `PublishRefused`."""
    if not isinstance(given, dict):
        raise PublishRefused("an event is an object: {channel, type, payload}")
    payload = given.get("payload", given.get("data", {}))
    if not isinstance(payload, dict):
        raise PublishRefused("the payload is an object")
    kind = given.get("type", payload.get("type"))
    channel, id = given.get("channel"), given.get("id")
    if not (isinstance(channel, str) and channel and isinstance(kind, str) and kind):
        raise PublishRefused("an event names its channel and its type, as text")
    if "*" in channel or not channel.isprintable() or len(channel) > LONGEST_ID:
        raise PublishRefused(f"a channel to publish on is at most {LONGEST_ID} printable characters, and no pattern")
    if id is not None and not (isinstance(id, str) and 0 < len(id) <= LONGEST_ID and id.isprintable()):
        raise PublishRefused(f"an event's id is at most {LONGEST_ID} printable characters")
    data = {name: value for name, value in payload.items() if name != "type"}
    if len(json.encode(data)) > LARGEST:
        raise PublishRefused(f"the payload may have {LARGEST} bytes")
    return Publication(channel, kind, data, id, _expected(given.get("expectedPosition"), epoch))


def _expected(given: Json, epoch: str) -> int | None:
    """Read an expected position: a whole number, a cursor, or an event's `cursor`."""
    if isinstance(given, dict):
        given = given.get("sequence")
    if isinstance(given, str):
        try:
            cursor = Cursor.parse(given)
        except ValueError as error:
            raise PublishRefused(f"expectedPosition is {error}") from None
        if cursor.epoch != epoch:
            raise PublishRefused("expectedPosition is a cursor of another log; load the state again")
        given = cursor.position
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    raise PublishRefused("expectedPosition is a position or a cursor")


@dataclass(frozen=True, slots=True)
class Publisher:
    """Checks what clients publish, and puts it on the stream."""

    contract: Contract
    log: PublicLog
    tail: Tail
    clock: Callable[[], int]
    new_id: Callable[[], str]

    def rule(self, publication: Publication) -> Publishable:
        """Return the contract's rule for an event; raises `PublishRefused`."""
        channel = self.contract.channel_rules(publication.channel)
        rules = () if channel is None else channel.publish
        rule = next((rule for rule in rules if rule.type == publication.type), None)
        if rule is None:
            types = ", ".join(sorted(each.type for each in rules)) or "nothing"
            raise PublishRefused(
                f"{publication.type!r} may not be published on {publication.channel}; the contract lets clients "
                f"publish {types} there"
            )
        faults = rule.faults(publication.data)
        if faults:
            raise PublishRefused(f"a {publication.type!r} cannot be published like this: {'; '.join(faults)}")
        return rule

    async def publish(self, publication: Publication, actor: str | None = None) -> Published:
        """Put an event on the stream; returns when it is durable, or shown if it is ephemeral.

        Raises `PublishRefused`, `IdTaken`, and `PositionConflict`.
        """
        rule = self.rule(publication)
        draft = Draft(
            id=publication.id or self.new_id(),
            channel=publication.channel,
            type=publication.type,
            time=self.clock(),
            data=publication.data,
            actor=actor,
            cause=CAUSE,
        )
        if not rule.durable:
            self.tail.ephemeral(draft)
            return Published(draft, None)
        if publication.id is not None and (before := await self._before(draft)):
            return before
        unmoved = None if publication.expected is None else {draft.channel: publication.expected}
        try:
            (event,) = await self.log.append([draft], unmoved=unmoved)
        except PositionConflict:
            # Perhaps it was this very event, published twice at the same time, that moved the channel.
            before = await self._before(draft)
            if before is None:
                raise
            return before
        if event.draft is draft:
            return Published(draft, Cursor(self.log.head.epoch, event.position))
        return self._same(event, draft)

    async def _before(self, draft: Draft) -> Published | None:
        event = await asyncio.to_thread(self.log.find, draft.id)
        return None if event is None else self._same(event, draft)

    def _same(self, event: Event, draft: Draft) -> Published:
        stored = event.draft
        data = draft.data if stored.cause == RETENTION else stored.data
        if (stored.channel, stored.type, data) != (draft.channel, draft.type, draft.data):
            raise IdTaken(f"another event has the id {draft.id} already; give this one an id of its own")
        return Published(stored, Cursor(self.log.head.epoch, event.position), again=True)


def published_told(published: Published) -> dict[str, Json]:
    """Return what a client is told of the event that it published."""
    position = None if published.cursor is None else published.cursor.position
    cursor = None if published.cursor is None else str(published.cursor)
    return {"cursor": cursor, "event": stored_event(published.draft, position), "again": published.again}
