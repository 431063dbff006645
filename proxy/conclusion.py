"""What a doubt comes to, by what was seen: the events that the call owes, nothing, or what was found. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from proxy.births import Birth
from proxy.verdict import Change, Fields, Look, Sign, correction, differs, sign, verdict
from shadow.contract import ExpressionError, Rule
from shadow.contract.rules import KeysOf
from shadow.events import Draft, EntityKey
from shadow.journal import Intent, Outcome, Settlement
from shadow.json import Json
from shadow.privacy import Privacy


@dataclass(frozen=True, slots=True)
class Case:
    """An intent in doubt with its rule and its input in clear."""

    intent: Intent
    rule: Rule
    input: Json

    def change(self, key: EntityKey) -> Change:
        """Return what the call makes of an entity."""
        return lambda state: self.rule.predict(self.input, state, self.intent.received, key)


@dataclass(frozen=True, slots=True)
class Conclusions:
    """Draws conclusions from what was seen; what leaves it may be kept in the log."""

    read_state: Callable[[EntityKey], Fields | None]
    """The state of an entity, in clear."""
    keys_of: KeysOf
    clock: Callable[[], int]
    new_id: Callable[[], str]
    privacy: Privacy | None

    def settle(self, case: Case, looks: Sequence[Look], births: Sequence[Birth], *, superseded: bool) -> Settlement:
        """Return the settlement of a case; `superseded` as in `proxy.verdict.verdict`."""
        signs = [sign(look) for look in looks] + [birth.sign for birth in births] or [Sign.NOT_APPLIED]
        outcome, why = verdict(signs, superseded=superseded)
        drafts: tuple[Draft, ...] = ()
        if outcome is Outcome.APPLIED:
            owed = self._owed(case, births)
            if owed is None:
                outcome, why = Outcome.OBSERVED, "as_found"
            drafts = owed or ()
        if outcome is Outcome.OBSERVED:
            drafts = tuple(self._corrections(case, looks, births))
        return Settlement(case.intent.id, outcome, self.clock(), drafts, detail=why)

    def decided(self, case: Case, output: Json) -> tuple[Draft, ...] | None:
        """Return the call's events if this was its answer; None when they cannot be made of it."""
        intent = case.intent
        try:
            drafts = case.rule.decide(
                case.input,
                output,
                self.read_state,
                self.clock(),
                self.new_id,
                cause=f"intent:{intent.id}",
                actor=intent.actor,
                keys_of=self.keys_of,
            )
        except ExpressionError:
            return None
        if self.privacy is None:
            return drafts
        return self.privacy.seal_drafts(intent.procedure, case.input, output, drafts)

    def _owed(self, case: Case, births: Sequence[Birth]) -> tuple[Draft, ...] | None:
        """Return the events that the call owes; None when they cannot be made without its answer."""
        items = [candidate for birth in births for candidate in birth.found]
        drafts = self.decided(case, items[0].item if items else None)
        named = {draft.entity for draft in drafts or ()}
        if any(EntityKey(want.entity.name, one.key) not in named for want, found, _ in births for one in found):
            return None
        return drafts

    def _corrections(self, case: Case, looks: Sequence[Look], births: Sequence[Birth]) -> Iterator[Draft]:
        found = [
            Look(want.entity, EntityKey(want.entity.name, one.key), None, None, one.fields, frozenset(one.fields))
            for want, strangers, _ in births
            for one in strangers
        ]
        for look in [*(look for look in looks if differs(look)), *found]:
            draft = correction(
                look,
                cause=f"doubt:{case.intent.id}",
                channel=self._channel(case, look),
                now=self.clock(),
                id=self.new_id(),
                actor=case.intent.actor,
            )
            yield draft if self.privacy is None else self.privacy.seal_draft(draft)

    def _channel(self, case: Case, look: Look) -> str:
        """Return the channel on which the contract tells of the entity."""
        values = {"input": case.input, "now": self.clock(), "key": look.key.key, "state": look.before}
        values["output"] = {**(look.found or {}), "id": look.key.key}
        for event in case.rule.events:
            ours = event.entity is not None and event.entity.name == look.key.entity
            if not ours or not event.channel.variables <= values.keys():
                continue
            with suppress(ExpressionError):
                channel = event.value(event.channel, values, "channel")
                if isinstance(channel, str):
                    return channel
        return f"{look.key.entity}:{look.key.key}"
