"""Calls on one entity whose order nobody saw: the members of one batch, and calls that overlap where nobody waits.

The legacy runs a batch's members concurrently, and in a phase with `ordering = "observed"` calls on one entity do not
wait for each other. All of them were acknowledged, so all have their events; which came last is told by the entity
itself. Where no order explains what the legacy shows, a correction records what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
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

FEW = 4
"""Members for which every order is tried."""


class Asked(Protocol):
    """A call as far as its effect on an entity goes."""

    @property
    def input(self) -> Json:
        """What was asked."""

    @property
    def rule(self) -> Rule | None:
        """What it means."""


def orders(
    calls: Sequence[Asked], key: EntityKey, before: Fields | None, now: int
) -> list[tuple[tuple[int, ...], Fields | None]]:
    """Return the orders in which the calls may have been applied, with the state that the entity then has.

    The likeliest comes first. Of many calls it is only tried which came last. Empty when their order does not matter
    or cannot be told from the state.
    """
    found: list[tuple[tuple[int, ...], Fields | None]] = []
    for order in _permutations(len(calls)):
        state = before
        for place in order:
            rule = calls[place].rule
            after = rule.predict(calls[place].input, state, now, key) if rule is not None else state
            if isinstance(after, Unpredictable):
                return []
            state = after
        found.append((order, state))
    return found if any(state != found[0][1] for _, state in found) else []


def _permutations(many: int) -> Iterable[tuple[int, ...]]:
    usual = tuple(range(many))
    if many <= FEW:
        return permutations(usual)
    return [(*(place for place in usual if place != last), last) for last in reversed(usual)]


def explanation(
    entity: Entity, candidates: Sequence[tuple[tuple[int, ...], Fields | None]], found: Fields | None
) -> tuple[int, ...] | None:
    """Return the first order that explains what the legacy shows; None when none does."""
    states = [state for _, state in candidates]
    telling = [
        name
        for name in entity.fields
        if any((state or {}).get(name) != (states[0] or {}).get(name) for state in states)
    ]
    for order, state in candidates:
        if (state is None) != (found is None):
            continue
        if state is None or all(alike(entity, name, state.get(name), (found or {}).get(name)) for name in telling):
            return order
    return None


def view(entity: Entity, key: EntityKey, state: Fields | None, found: Fields | None) -> Look:
    """Return an entity as the log has it beside what the legacy shows.

    A field that the legacy does not show is not there, unless its list cannot show it. What the log never heard of
    the entity is not this question's.
    """
    shown = frozenset(state or entity.fields)
    if entity.get is None and entity.list is not None:
        shown -= entity.list.lacks
    return Look(entity, key, state, state, found, shown)


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
        order = explanation(self.contract.entities[key.entity], candidates, found)
        return (usual, False) if order is None else ([usual[place] for place in order], True)

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
        return view(self.contract.entities[key.entity], key, self._state(key), found)

    def _state(self, key: EntityKey) -> Fields | None:
        state = self.log.state(key)
        if state is None or state.fields is None:
            return None
        opened: Fields = self.privacy.open_fields(key, state.fields)
        return opened


class _Unreadable(Exception):
    """The contract gives no way to read the entity."""
