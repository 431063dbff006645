"""What the legacy and the log show about a call in doubt: reads only, nothing is decided or written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from proxy.births import SKEW, Candidate
from proxy.conclusion import Case
from proxy.creations import Creations
from proxy.reading import LegacyReader
from proxy.verdict import CannotTell, Fields, Look, supersedes
from shadow.contract import Contract, Entity
from shadow.contract.rules import KeysOf
from shadow.events import Effect, EntityKey
from shadow.journal import UNSETTLED, Intent, Outcome
from shadow.json import Json
from shadow.log import Log
from shadow.privacy import Privacy

MOST_MEMBERS = 1000
"""Calls of one request that are looked through for others that are in doubt as well."""


class MovedOn(Exception):
    """Something changed while we were looking: look again."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Looks at one side and the other; raises what `LegacyReader` raises, and LogUnavailable."""

    contract: Contract
    log: Log
    reader: LegacyReader
    creations: Creations
    privacy: Privacy | None = None
    caught_up: Callable[[], Awaitable[None]] | None = None
    """Waits until the log has every call that has ended by now and is only spooled."""

    def case_of(self, intent: Intent) -> Case:
        """Return an intent with what it means; raises `CannotTell` when the contract no longer says it."""
        rule = self.contract.mutations.get(intent.procedure)
        if rule is None:
            raise CannotTell("no_rule")
        return Case(intent, rule, self.opened(intent))

    def opened(self, intent: Intent) -> Json:
        """Return what was asked, in clear."""
        return intent.input if self.privacy is None else self.privacy.open_input(intent.procedure, intent.input)

    def state(self, key: EntityKey) -> Fields | None:
        """Return an entity's state in clear."""
        state = self.log.state(key)
        if state is None or state.fields is None or self.privacy is None:
            return None if state is None else state.fields
        opened: Fields = self.privacy.open_fields(key, state.fields)
        return opened

    def position(self, key: EntityKey) -> int:
        """Return the position of an entity's last event, 0 when there is none."""
        state = self.log.state(key)
        return 0 if state is None else state.position

    def knows(self, key: EntityKey) -> bool:
        """Tell whether the log has ever told of an entity."""
        return self.log.state(key) is not None

    def superseded(self, intent: Intent, key: EntityKey) -> bool:
        """Tell whether the last event on an entity is of a call that may have been applied after this one."""
        state = self.log.state(key)
        event = None if state is None else self.log.event(state.position)
        return event is not None and supersedes(event.draft.cause, intent, self._request_of)

    def others(self, intent: Intent, key: EntityKey, keys_of: KeysOf) -> list[Case]:
        """Return the other calls of a request on an entity of which nobody knows whether they were applied."""
        unknown = (*UNSETTLED, Outcome.OBSERVED)
        near = self.log.intents(unknown, after=intent.id - intent.index - 1, limit=MOST_MEMBERS)
        cases = [
            self.case_of(other)
            for other in near
            if other.request == intent.request and other.id != intent.id and other.procedure in self.contract.mutations
        ]
        return [case for case in cases if key in case.rule.keys_before(case.input, case.intent.received, keys_of)]

    def _request_of(self, intent: int) -> str | None:
        found = self.log.intent(intent)
        return None if found is None else found.request

    def readable(self, key: EntityKey) -> bool:
        """Tell whether the contract says how the legacy shows an entity."""
        entity = self.contract.entities[key.entity]
        return entity.get is not None or entity.list is not None

    async def look(self, case: Case, key: EntityKey) -> Look:
        """Look at an entity whose key is known."""
        entity = self.contract.entities[key.entity]
        found = await self.reader.one(entity, key.key)
        before = self.state(key)
        creates = any(
            event.entity is not None and event.entity.name == key.entity and event.effect is Effect.CREATE
            for event in case.rule.events
        )
        shown = frozenset(entity.fields)
        if entity.get is None and entity.list is not None:
            shown -= entity.list.lacks
        return Look(
            entity,
            key,
            before,
            case.rule.predict(case.input, before, case.intent.received, key),
            None if found is None else found.fields,
            shown,
            known=self.knows(key) or creates,
        )

    async def strangers(self, entity: Entity) -> list[Candidate]:
        """Return the entities that the log does not know and that no call under way is making."""
        found = [one async for one in self.reader.all(entity) if not self.knows(EntityKey(entity.name, one.key))]
        await self._told_of([entity.name])
        return [
            Candidate(one.key, one.fields, one.item) for one in found if not self.knows(EntityKey(entity.name, one.key))
        ]

    async def whole(self, entity: Entity, listed: Candidate) -> Candidate:
        """Return a listed entity with all its fields: a list may show fewer than the single read."""
        if entity.get is None:
            return listed
        found = await self.reader.one(entity, listed.key)
        if found is None:
            raise MovedOn
        return Candidate(listed.key, found.fields, found.item)

    async def answers(self, case: Case) -> Sequence[Json]:
        """Return what the rule's `find` finds: what the call's answer may have been."""
        find = case.rule.find
        if find is None:
            return ()
        answer = await self.reader.query(find.query, find.input_for(case.input))
        outputs = find.outputs(case.input, answer, case.intent.received - SKEW)
        await self._told_of({event.entity.name for event in case.rule.events if event.entity})
        return outputs

    async def _told_of(self, kinds: Iterable[str]) -> None:
        """Wait until the log knows every entity of these kinds that is not made by a create in doubt.

        What was read before may show entities whose creates are under way, or whose events wait in the spool.
        """
        for kind in kinds:
            await self.creations.parked(kind)
        if self.caught_up is not None:
            await self.caught_up()
