"""What a request holds of the entities that its calls are about, from before the intents until after the events.

The locks of entities are taken in sorted order; a create of an entity whose key only the answer will tell is announced
instead (see `proxy.creations`). Where the contract lets calls overlap, nothing is held, and it is noted who overlapped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.creations import Creation, Creations
from proxy.judging import Call, KeysOf, StateReader, keys_before, kinds_made
from proxy.observation import Overlaps
from shadow.errors import LogUnavailable
from shadow.events import EntityKey
from shadow.locks import EntityLocks


class EntityBusy(Exception):
    """The entity's earlier mutation is still running or in doubt; nothing was forwarded."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"an earlier mutation of the same entity has not come to an end within {seconds:g} s; try again shortly"
        )


@dataclass(frozen=True, slots=True)
class Ground:
    """What all requests claim from."""

    locks: EntityLocks
    creations: Creations
    overlaps: Overlaps | None
    """Who is under way where nobody waits; None: everybody waits."""
    strict: Callable[[str], bool]
    """Tells whether the calls on a kind of entity wait for each other."""
    read_state: StateReader
    keys_of: KeysOf
    patience: float
    """Seconds that a request waits for an earlier one on its entity."""


class Claims:
    """One request's claims: `take_free` or `wait` for them first, and `release` what is left of them at the end."""

    __slots__ = ("_creations", "_ground", "_held", "_kept", "_making", "_overlapping", "_strict", "_wanted", "keys")

    def __init__(self, ground: Ground, calls: Sequence[Call], received: int) -> None:
        self._ground = ground
        self.keys: dict[int, tuple[EntityKey, ...]] = {
            call.index: keys_before(call, received, ground.keys_of) for call in calls
        }
        """The entities that each call, by index, is known to be about."""
        self._wanted = _all_of(self.keys)
        self._strict = [key for key in self._wanted if ground.strict(key.entity)]
        self._making = {call.index: kinds for call in calls if (kinds := kinds_made(call, received))}
        self._creations: dict[int, Creation] = {}
        self._held: set[EntityKey] = set()
        self._kept: set[EntityKey] = set()
        self._overlapping: tuple[EntityKey, ...] = ()

    def take_free(self) -> bool:
        """Take everything if there is nothing to wait for; tells whether it did."""
        ground = self._ground
        if ground.creations.any(self._wanted) or not ground.locks.take_free(self._strict):
            return False
        self._taken()
        return True

    @property
    def strict(self) -> bool:
        """Whether nobody overlaps with any of these calls: whoever comes later on their entities waits."""
        return len(self._strict) == len(self._wanted)

    async def wait(self) -> None:
        """Take everything after what came before on the same entities, creates of unknown ones included.

        Raises `EntityBusy`.
        """
        ground = self._ground
        try:
            async with asyncio.timeout(ground.patience):
                for kind in {key.entity for key in self._wanted if self._unknown(key)}:
                    await ground.creations.ended(kind)
                await ground.locks.acquire(self._strict)
        except TimeoutError:
            raise EntityBusy(ground.patience) from None
        self._taken()

    def _unknown(self, key: EntityKey) -> bool:
        try:
            return self._ground.read_state(key) is None
        except LogUnavailable:
            return True

    def _taken(self) -> None:
        ground = self._ground
        self._held.update(self._strict)
        if ground.overlaps is not None and len(self._strict) < len(self._wanted):
            self._overlapping = ground.overlaps.enter(key for key in self._wanted if key not in self._held)
        for index, kinds in self._making.items():
            self._creations[index] = ground.creations.begin(kinds)

    def shared(self) -> dict[EntityKey, list[int]]:
        """Return the entities that several of the calls are about, with the calls."""
        users: dict[EntityKey, list[int]] = {}
        for index, mine in self.keys.items():
            for key in mine:
                users.setdefault(key, []).append(index)
        return {key: indexes for key, indexes in users.items() if len(indexes) > 1}

    def of(self, index: int) -> tuple[tuple[EntityKey, ...], Creation | None]:
        """Return what is held for a call that is left behind; its creation is no longer this request's to end."""
        return tuple(key for key in self.keys[index] if key in self._held), self._creations.pop(index, None)

    def hand_over(self, keys: Iterable[EntityKey]) -> None:
        """Note that somebody else holds some locks from now on, and frees them."""
        self._held.difference_update(keys)

    def keep(self, keys: Iterable[EntityKey]) -> None:
        """Note that somebody else will free some locks, which are needed here until the end."""
        self._kept.update(keys)

    def release_settled(self, still_open: Iterable[int], needed: Iterable[EntityKey]) -> None:
        """Free what only settled calls held: in a stream the others may go on for long."""
        going_on = set(still_open)
        needs = {key for index in going_on for key in self.keys[index]}.union(needed, self._kept)
        free = self._held - needs
        self._ground.locks.release(sorted(free))
        self._held -= free
        for index in self._creations.keys() - going_on:
            self._creations.pop(index).end()

    def quiet(self) -> tuple[EntityKey, ...]:
        """Return the entities on which calls overlapped, now that this request's are settled and no other goes on."""
        overlapping, self._overlapping = self._overlapping, ()
        overlaps = self._ground.overlaps
        return () if overlaps is None or not overlapping else overlaps.leave(overlapping)

    def release(self) -> None:
        """Free everything that is left; may be repeated."""
        ground = self._ground
        if self._overlapping:
            for key in self.quiet():
                assert ground.overlaps is not None
                ground.overlaps.again(key)
        if self._held:
            ground.locks.release([key for key in self._strict if key in self._held and key not in self._kept])
            self._held.clear()
        for creation in self._creations.values():
            creation.end()


def _all_of(keys: Mapping[int, tuple[EntityKey, ...]]) -> tuple[EntityKey, ...]:
    """Return all keys, sorted, each once."""
    if len(keys) == 1:
        return next(iter(keys.values()))
    return tuple(sorted({key for mine in keys.values() for key in mine}))
