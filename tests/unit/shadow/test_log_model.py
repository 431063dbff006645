"""Whatever is asked of a log in whatever order, it holds what a model of a few lines holds."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shadow.errors import LogError
from shadow.events import Draft, Effect, EntityKey, Event
from shadow.journal import WITH_EVENTS, Outcome, Settlement
from shadow.log import Log
from shadow.state import State
from tests.support.facts import draft, intent

KEYS = [EntityKey("session", "a"), EntityKey("session", "b"), EntityKey("provider", "a")]
NEXT = {
    Outcome.OPEN: {Outcome.APPLIED, Outcome.REJECTED, Outcome.IN_DOUBT, Outcome.NOT_APPLIED},
    Outcome.IN_DOUBT: {Outcome.APPLIED, Outcome.NOT_APPLIED, Outcome.OBSERVED},
}

changes = st.tuples(
    st.sampled_from(KEYS), st.sampled_from(Effect), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9))
)


class LogAgainstModel(RuleBasedStateMachine):
    """The model: ids of events in order, states by key, outcomes by intent."""

    @initialize()
    def open(self) -> None:
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.numbers = count()
        self.events: list[str] = []
        self.states: dict[EntityKey, State] = {}
        self.outcomes: list[Outcome] = []
        self.told: list[Event] = []
        self.log = self.opened()

    def opened(self) -> Log:
        log = Log.open(f"sqlite:///{self.folder}/log.db", cached_states=1, lag=3)
        log.on_commit(self.told.extend)
        return log

    def teardown(self) -> None:
        self.runner.run(self.log.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def drafts(self, given: Sequence[tuple[EntityKey, Effect, dict[str, int]]]) -> tuple[Draft, ...]:
        return tuple(draft(f"e{next(self.numbers)}", key, effect, **change) for key, effect, change in given)

    def expect(self, drafts: Sequence[Draft]) -> None:
        for one in drafts:
            if one.id in self.events or one.entity is None:
                continue
            self.events.append(one.id)
            before = self.states.get(one.entity)
            fields = before.fields if before else None
            if one.effect in {Effect.CREATE, Effect.PUT}:
                fields = dict(one.change or {})
            elif one.effect is Effect.PATCH and fields is not None:
                fields = fields | (one.change or {})
            elif one.effect is Effect.DELETE:
                fields = None
            self.states[one.entity] = State(fields, len(self.events))

    def expected(self, settlement: Settlement) -> bool:
        if settlement.intent > len(self.outcomes) or (settlement.drafts and settlement.outcome not in WITH_EVENTS):
            return False
        current = self.outcomes[settlement.intent - 1]
        if settlement.outcome in NEXT.get(current, ()):
            self.outcomes[settlement.intent - 1] = settlement.outcome
            self.expect(settlement.drafts)
            return True
        return settlement.outcome is current

    @rule(many=st.integers(1, 3))
    def begin(self, many: int) -> None:
        ids = self.runner.run(self.log.begin([intent()] * many))
        assert ids == tuple(range(len(self.outcomes) + 1, len(self.outcomes) + many + 1))
        self.outcomes += [Outcome.OPEN] * many

    @rule(
        given=st.lists(
            st.tuples(st.integers(1, 12), st.sampled_from(Outcome), st.lists(changes, max_size=2)),
            min_size=1,
            max_size=4,
        )
    )
    def settle_together(self, given: list[tuple[int, Outcome, list[Any]]]) -> None:
        """Each on its own, all in one transaction: those that cannot be done must not harm the others."""
        settlements = [Settlement(id, outcome, 11, self.drafts(change)) for id, outcome, change in given]

        async def together() -> list[Any]:
            return await asyncio.gather(*(self.log.settle([one]) for one in settlements), return_exceptions=True)

        done = self.runner.run(together())
        for result, settlement in zip(done, settlements, strict=True):
            assert isinstance(result, LogError) is not self.expected(settlement), (result, settlement)

    @rule(given=st.lists(changes, max_size=3), again=st.integers(0, 30))
    def append(self, given: list[Any], again: int) -> None:
        drafts = self.drafts(given)
        if again < len(self.events):
            drafts = (*drafts, draft(self.events[again], KEYS[0], title="another"))
        events = self.runner.run(self.log.append(drafts))
        self.expect(drafts)
        assert [event.draft.id for event in events] == [one.id for one in drafts]
        assert [event.position for event in events] == [self.events.index(one.id) + 1 for one in drafts]

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.log.close())
        self.log = self.opened()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        events = self.log.read(["*"], 0, 10_000)
        assert [event.draft.id for event in events] == self.events
        assert self.told == events
        assert {key: self.log.state(key) for key in KEYS} == {key: self.states.get(key) for key in KEYS}
        assert [found.outcome for found in self.log.intents()] == self.outcomes
        assert self.log.verify() is None


TestLogAgainstModel = LogAgainstModel.TestCase
TestLogAgainstModel.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
