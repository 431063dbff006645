"""However its steps, its crashes and the legacy's failures fall, the protocol keeps its promises."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.exploration import CREATES, EVERYTHING, ONE_BATCH, RETRIES, SEEN_EARLY, Exploration, Scope, walk

MORE = int(os.environ.get("MODEL_TIMES", "1"))
"""How many times as long to look as in every run of the tests; with more than once hypothesis looks elsewhere, too."""

Rule: TypeAlias = Callable[["Protocol", st.DataObject], None]

SCOPES = {
    "everything": EVERYTHING,
    "one batch": ONE_BATCH,
    "creates": CREATES,
    "seen early": SEEN_EARLY,
    "retries": RETRIES,
}


def can(way: str) -> Callable[[Rule], Rule]:
    """Let a rule be taken only where it can be."""
    decorate: Callable[[Rule], Rule] = precondition(lambda self: way in self.ways)
    return decorate


class Protocol(RuleBasedStateMachine):
    """What `Exploration` can do, chosen by hypothesis, which finds the shortest way to a broken promise."""

    @initialize()
    def begin(self) -> None:
        self.exploration = Exploration(EVERYTHING)
        self.ways = self.exploration.ways()

    def do(self, way: str, data: st.DataObject) -> None:
        self.exploration.do(way, lambda options: data.draw(st.sampled_from(options)))
        self.ways = self.exploration.ways()

    @can("send")
    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        self.do("send", data)

    @can("send_again")
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        self.do("send_again", data)

    @can("go_on")
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.do("go_on", data)

    @can("proxy")
    @rule(data=st.data())
    def proxy(self, data: st.DataObject) -> None:
        self.do("proxy", data)

    @can("legacy")
    @rule(data=st.data())
    def legacy(self, data: st.DataObject) -> None:
        self.do("legacy", data)

    @can("resolver")
    @rule(data=st.data())
    def resolver(self, data: st.DataObject) -> None:
        self.do("resolver", data)

    @can("log")
    @rule(data=st.data())
    def log(self, data: st.DataObject) -> None:
        self.do("log", data)

    @can("bad_log")
    @rule(data=st.data())
    def bad_log(self, data: st.DataObject) -> None:
        self.do("bad_log", data)

    @can("operator")
    @rule(data=st.data())
    def operator(self, data: st.DataObject) -> None:
        self.do("operator", data)

    @can("wait")
    @rule(data=st.data())
    def wait(self, data: st.DataObject) -> None:
        self.do("wait", data)

    @can("crash")
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        self.do("crash", data)

    @can("restart")
    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        self.do("restart", data)

    def teardown(self) -> None:
        if hasattr(self, "exploration") and not self.exploration.broken:
            self.exploration.finish()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(
    max_examples=100 * MORE, stateful_step_count=40, deadline=None, derandomize=MORE == 1, print_blob=True
)


@pytest.mark.parametrize("name", SCOPES)
def test_chance_breaks_no_promise(name: str) -> None:
    """Chance takes ten times as many steps in the same time as hypothesis, from the same seeds every time."""
    scope: Scope = SCOPES[name]
    for seed in range(400 * MORE):
        walk(seed, 40, scope)
