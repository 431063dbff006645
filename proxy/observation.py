"""Calls on one entity whose order nobody saw: the members of one batch, and calls that overlap where nobody waits.

The legacy runs a batch's members concurrently, and in a phase with `ordering = "observed"` calls on one entity do not
wait for each other. All of them were acknowledged, so all have their events; which came last is told by the entity
itself. Where no order explains what the legacy shows, a correction records what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from proxy.reading import LegacyAway, LegacyReader, ReadRefused
from proxy.verdict import Fields, Look, alike, correction, differs
from shadow.contract import Contract, Entity, ExpressionError, Rule
from shadow.contract.rules import Unpredictable
from shadow.errors import LogUnavailable, PositionConflict
from shadow.events import EntityKey
from shadow.json import Json
from shadow.log import Log
from shadow.privacy import Privacy

logger = structlog.get_logger(__name__)

MOST_ORDERS = 6
"""Members of one batch on one entity for which it is tried which came last."""


class Asked(Protocol):
    """A call as far as its effect on an entity goes."""

    @property
    def input(self) -> Json:
        """What was asked."""

    @property
    def rule(self) -> Rule | None:
        """What it means."""


def orders(calls: Sequence[Asked], key: EntityKey, before: Fields | None, now: int) -> list[tuple[int, Fields | None]]:
    """Return which of the calls may have come last, with the state that the entity then has; the likeliest first.

    Empty when their order does not matter or cannot be told from the state.
    """
    found: list[tuple[int, Fields | None]] = []
    for last in reversed(range(len(calls))):
        state = before
        for place in [*(place for place in range(len(calls)) if place != last), last]:
            rule = calls[place].rule
            after = rule.predict(calls[place].input, state, now, key) if rule is not None else state
            if isinstance(after, Unpredictable):
                return []
            state = after
        found.append((last, state))
    return found if any(state != found[0][1] for _, state in found) else []


def last_writer(entity: Entity, candidates: Sequence[tuple[int, Fields | None]], found: Fields | None) -> int | None:
    """Return which call came last by what the legacy shows; None when no order explains it."""
    states = [state for _, state in candidates]
    telling = [
        name
        for name in entity.fields
        if any((state or {}).get(name) != (states[0] or {}).get(name) for state in states)
    ]
    for last, state in candidates:
        if (state is None) != (found is None):
            continue
        if state is None or all(alike(entity, name, state.get(name), (found or {}).get(name)) for name in telling):
            return last
    return None


class Overlaps:
    """Who is under way on which entity, where nobody waits for anybody."""

    def __init__(self) -> None:
        self._inside: dict[EntityKey, int] = {}
        self._overlapped: set[EntityKey] = set()

    def enter(self, keys: Iterable[EntityKey]) -> tuple[EntityKey, ...]:
        """Note that a call on these entities begins; returns what `leave` takes."""
        entered = tuple(keys)
        for key in entered:
            self._inside[key] = self._inside.get(key, 0) + 1
            if self._inside[key] > 1:
                self._overlapped.add(key)
        return entered

    def leave(self, keys: Iterable[EntityKey]) -> tuple[EntityKey, ...]:
        """Note that it is settled; returns the entities on which calls overlapped and nobody is under way any more."""
        quiet = []
        for key in keys:
            self._inside[key] -= 1
            if not self._inside[key]:
                del self._inside[key]
                if key in self._overlapped:
                    self._overlapped.discard(key)
                    quiet.append(key)
        return tuple(quiet)

    def busy(self, key: EntityKey) -> bool:
        """Tell whether somebody is under way on an entity."""
        return key in self._inside

    def again(self, key: EntityKey) -> None:
        """Note that an entity has to be looked at when whoever is under way on it has left."""
        self._overlapped.add(key)


@dataclass(frozen=True, slots=True)
class Observer:
    """Looks at single entities of the legacy and puts into the log what it finds there."""

    contract: Contract
    log: Log
    reader: LegacyReader
    privacy: Privacy
    overlaps: Overlaps
    clock: Callable[[], int]
    new_id: Callable[[], str]

    async def order(self, calls: Mapping[int, Asked], key: EntityKey, now: int) -> tuple[list[int], bool]:
        """Return the calls on one entity, by index, in the order that explains what the legacy shows.

        The second value tells whether it does; otherwise `observe` the entity when they are settled.
        """
        usual = sorted(calls)
        if len(usual) > MOST_ORDERS:
            return usual, False
        try:
            candidates = orders([calls[index] for index in usual], key, self._state(key), now)
            if not candidates:
                return usual, False
            found = await self._found(key)
        except (LegacyAway, ReadRefused, ExpressionError, LogUnavailable, _Unreadable):
            return usual, False
        place = last_writer(self.contract.entities[key.entity], candidates, found)
        if place is None:
            return usual, False
        return [index for index in usual if index != usual[place]] + [usual[place]], True

    async def observe(self, keys: Iterable[EntityKey], cause: str) -> None:
        """Compare entities with the log and append what differs. What cannot be read is left to the reconciler."""
        for key in keys:
            try:
                await self._observe(key, cause)
            except (LegacyAway, ReadRefused, ExpressionError, LogUnavailable, _Unreadable) as error:
                logger.warning("order_not_observed", entity=key.entity, reason=type(error).__name__)

    async def _observe(self, key: EntityKey, cause: str) -> None:
        for _ in range(3):
            state = self.log.state(key)
            position = 0 if state is None else state.position
            found = await self._found(key)
            if self.overlaps.busy(key):
                self.overlaps.again(key)
                return
            look = self._look(key, found)
            if state is None or not differs(look):
                return
            event = await asyncio.to_thread(self.log.event, position)
            draft = correction(
                look,
                cause=cause,
                channel=event.draft.channel if event else f"{key.entity}:{key.key}",
                now=self.clock(),
                id=self.new_id(),
                actor=None,
            )
            try:
                await self.log.append([self.privacy.seal_draft(draft)], expected={key: position})
            except PositionConflict:
                continue
            logger.warning("order_corrected", entity=key.entity, cause=cause)
            return

    async def _found(self, key: EntityKey) -> Fields | None:
        entity = self.contract.entities[key.entity]
        if entity.get is None and entity.list is None:
            raise _Unreadable
        found = await self.reader.one(entity, key.key)
        return None if found is None else found.fields

    def _look(self, key: EntityKey, found: Fields | None) -> Look:
        entity = self.contract.entities[key.entity]
        shown = frozenset(found or entity.fields)
        state = self._state(key)
        # What the log never heard of the entity is not this question's.
        shown &= frozenset(state or shown)
        return Look(entity, key, state, state, found, shown)

    def _state(self, key: EntityKey) -> Fields | None:
        state = self.log.state(key)
        if state is None or state.fields is None:
            return None
        opened: Fields = self.privacy.open_fields(key, state.fields)
        return opened


class _Unreadable(Exception):
    """The contract gives no way to read the entity."""
