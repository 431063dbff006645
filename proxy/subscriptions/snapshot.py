"""The state of entities at exactly one position, for clients that begin, or begin again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from proxy.subscriptions.feed import Sight
from shadow.events import Cursor, Draft, EntityKey, Event
from shadow.json import Json
from shadow.reader import At
from shadow.secrets import mask
from shadow.state import State

PAGE = 1000
"""Entities that one answer holds at most."""


class UnknownEntity(Exception):
    """There is no entity of this name; the message says which there are."""


class StateReader(Protocol):
    """What a snapshot needs of the log; all methods but `head` block."""

    @property
    def head(self) -> Cursor:
        """The cursor of the last event."""

    def state(self, key: EntityKey) -> State | None:
        """Return the state of an entity."""

    def states(self, entity: str, after_key: str | None, limit: int) -> list[tuple[EntityKey, State]]:
        """Return a page of an entity's states in the order of their keys."""

    def at(self, key: EntityKey, at: At) -> State | None:
        """Return the state that an entity had at a moment."""

    def channels_of(self, positions: Sequence[int]) -> Mapping[int, str]:
        """Return the channels of the events at some positions."""

    def event(self, position: int) -> Event | None:
        """Return the event at a position."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Takes snapshots of one log."""

    log: StateReader
    entities: tuple[str, ...]

    async def take(
        self, entity: str, sight: Sight, *, key: str | None = None, after: str | None = None, at: int | None = None
    ) -> dict[str, Json]:
        """Return a page of an entity's states (or one state), as they were at one position.

        `after` and `at` are `next` and the cursor's position of the page before, so that all pages are of one
        moment. What the subscriber may not see is left out. Raises `UnknownEntity`, and `Unavailable`.
        """
        if entity not in self.entities:
            names = ", ".join(self.entities) or "none"
            raise UnknownEntity(f"there is no entity {entity!r}; the contract has {names}")
        head = self.log.head
        position = head.position if at is None else min(at, head.position)
        page = await asyncio.to_thread(self._page, entity, key, after)
        states = await asyncio.to_thread(self._at, page, position)
        channels = await asyncio.to_thread(self.log.channels_of, [state.position for _, state in states])
        items: list[Json] = []
        for name, state in states:
            channel = channels.get(state.position)
            if channel is not None and await sight.sees(_seen_on(channel)):
                items.append({"key": name.key, "position": state.position, "fields": mask(state.fields)})
        full = key is None and len(page) == PAGE
        return {
            "cursor": str(Cursor(head.epoch, position)),
            "position": position,
            "entity": entity,
            "items": items,
            "next": page[-1][0].key if full else None,
        }

    def _page(self, entity: str, key: str | None, after: str | None) -> list[tuple[EntityKey, State]]:
        if key is None:
            return self.log.states(entity, after, PAGE)
        name = EntityKey(entity, key)
        state = self.log.state(name)
        return [] if state is None else [(name, state)]

    def _at(self, page: Sequence[tuple[EntityKey, State]], position: int) -> list[tuple[EntityKey, State]]:
        """Return the states as they were at a position, without those that were not there."""
        found: list[tuple[EntityKey, State]] = []
        for key, state in page:
            # What changed since the position was taken is looked up in the entity's history.
            then = state if state.position <= position else self.log.at(key, At(position=position))
            if then is not None and then.fields is not None:
                found.append((key, then))
        return found


def _seen_on(channel: str) -> Draft:
    return Draft(id="", channel=channel, type="", time=0, data=None)
