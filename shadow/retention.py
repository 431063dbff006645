"""What is kept for how long: old events lose what they say, and nothing that is kept depends on it.

Every event keeps its row: position, id, channel, type, time, entity and hash. So positions stay dense, an id published
again is still known, and the chain of hashes still links what is before to what is after. What goes is the event's
data, who caused it, and its change of state. In place of the change the last of some consecutive dropped events of an
entity takes the entity's whole state at that moment, so that every later state still adds up.

Readers who come with a cursor from before a dropped event of their channels are told so, and load the state again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from shadow.batch import Dropped
from shadow.contract import Channel, Contract
from shadow.errors import LogUnavailable
from shadow.events import RETENTION, Effect, EntityKey, Event
from shadow.reader import At
from shadow.state import State, follow

PAGE = 5_000
"""Events that are looked at in one go."""

BATCH = 200
"""Events that one transaction drops at most, so that no mutation waits long behind it."""

EVERY = 3600.0
"""Seconds between two looks at the log."""

logger = structlog.get_logger(__name__)


class ThinLog(Protocol):
    """What retention needs of the log; all methods but `thin` block."""

    def kept(self, patterns: Sequence[str], after: int, limit: int) -> list[tuple[int, str, int]]:
        """Return position, channel and time of events that say something still."""

    def kept_in_channels(self, patterns: Sequence[str]) -> dict[str, int]:
        """Return how many events of each channel say something still."""

    def event(self, position: int) -> Event | None:
        """Return the event at a position."""

    def history(self, key: EntityKey, at: At | None = None) -> list[Event]:
        """Return all events of an entity, oldest first."""

    async def thin(self, dropped: Sequence[Dropped]) -> None:
        """Drop what events say."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Applies a contract's rules to a log that this process writes."""

    contract: Contract
    log: ThinLog
    clock: Callable[[], int]

    @property
    def needed(self) -> bool:
        """Whether the contract drops anything at all."""
        return any(_limited(rules) for rules in self.contract.channels)

    async def run(self) -> None:
        """Look at the log now and then, for ever."""
        while True:
            try:
                dropped = await self.drop()
                if dropped:
                    logger.info("events_dropped", count=dropped)
            except LogUnavailable as error:
                logger.warning("retention_put_off", reason=str(error))
            await asyncio.sleep(EVERY)

    async def drop(self) -> int:
        """Drop everything that has been kept for long enough; returns how many events that were."""
        total = 0
        for rules in self.contract.channels:
            if not _limited(rules):
                continue
            old = await asyncio.to_thread(self._old, rules)
            for batch in _batches(old):
                await self.log.thin(await asyncio.to_thread(self._made_up, batch))
            total += len(old)
        return total

    def _old(self, rules: Channel) -> list[int]:
        """Return the positions of the events that these rules keep no longer."""
        counts = self.log.kept_in_channels([rules.pattern])
        mine = {channel for channel in counts if self.contract.channel_rules(channel) is rules}
        limit = rules.retention.count
        excess = {channel: 0 if limit is None else counts[channel] - limit for channel in mine}
        age = rules.retention.age
        oldest = None if age is None else self.clock() - round(age * 1000)
        found: list[int] = []
        for position, channel, time in self._kept(rules.pattern):
            if channel in mine and (excess[channel] > 0 or (oldest is not None and time < oldest)):
                found.append(position)
            if channel in mine:
                excess[channel] -= 1
        return found

    def _kept(self, pattern: str) -> Iterator[tuple[int, str, int]]:
        after = 0
        while page := self.log.kept([pattern], after, PAGE):
            yield from page
            after = page[-1][0]

    def _made_up(self, positions: Sequence[int]) -> list[Dropped]:
        """Return what takes the place of some events, and of those dropped before whose makeup is needed no more."""
        entities: set[EntityKey] = set()
        dropped = []
        for position in positions:
            event = self.log.event(position)
            if event is None:
                continue
            if event.draft.entity is None:
                dropped.append(Dropped(position, Effect.NONE, None))
            else:
                entities.add(event.draft.entity)
        for key in sorted(entities):
            dropped += made_up(self.log.history(key), set(positions))
        return dropped


def made_up(history: Sequence[Event], positions: Collection[int]) -> list[Dropped]:
    """Return what takes the place of those events of one entity that are at `positions`, or were dropped before.

    Of consecutive ones the last takes the entity's whole state, and the others nothing.
    """
    found: list[Dropped] = []
    state: State | None = None
    for place, event in enumerate(history):
        state = follow(state, event.position, event.draft.effect, event.draft.change)
        if not _goes(event, positions):
            continue
        if place + 1 < len(history) and _goes(history[place + 1], positions):
            found.append(Dropped(event.position, Effect.NONE, None))
        elif state.fields is None:
            found.append(Dropped(event.position, Effect.DELETE, None))
        else:
            found.append(Dropped(event.position, Effect.PUT, state.fields))
    return found


def _goes(event: Event, positions: Collection[int]) -> bool:
    return event.position in positions or event.draft.cause == RETENTION


def _limited(rules: Channel) -> bool:
    return rules.retention.age is not None or rules.retention.count is not None


def _batches(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(positions), BATCH):
        yield positions[start : start + BATCH]
