"""The model can fail: built wrongly in any of these ways the protocol breaks a promise, and the exploration sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from proxy import births, conclusion, idempotency, judging, observation, verdict
from proxy.verdict import Sign
from shadow import state
from shadow.events import Effect
from shadow.journal import Outcome
from tests.model.exploration import (
    CREATES,
    EVERYTHING,
    NAMED,
    ONE_BATCH,
    RETRIES,
    SEEN_EARLY,
    Broken,
    Scope,
    walk,
)
from tests.model.world import Flaw

SEEDS = 4000
"""Walks after which a flaw counts as not found."""

FLAWS = {
    Flaw.ANSWER_BEFORE_COMMIT: EVERYTHING,
    Flaw.FORWARD_BEFORE_INTENT: EVERYTHING,
    Flaw.FORWARD_LATE: CREATES,
    Flaw.NO_LOCKS: EVERYTHING,
    Flaw.DOUBT_WITHOUT_LOCKS: EVERYTHING,
    Flaw.NO_WAIT_FOR_CREATES: SEEN_EARLY,
    Flaw.EAGER_DOUBT: CREATES,
    Flaw.NO_RECOVERY: EVERYTHING,
    Flaw.OWED_DOUBT_FORGOTTEN: RETRIES,
    Flaw.NO_TURNS: CREATES,
    Flaw.NO_WAIT_FOR_MAKERS: CREATES,
    Flaw.NAMED_IS_STRANGE: NAMED,
    Flaw.OTHERS_IGNORED: CREATES,
    Flaw.NO_FENCE: EVERYTHING,
    Flaw.STAGE_UNHEARD: EVERYTHING,
    Flaw.NO_LOOK_AT_ORDER: ONE_BATCH,
    Flaw.WRITTEN_AGAIN: RETRIES,
    Flaw.DOUBT_TAKEN_FOR_FAILURE: EVERYTHING,
}
"""Where each is looked for."""


class Wrong(NamedTuple):
    """A decision of the program, what it is replaced by, and where that is looked for."""

    where: Any
    name: str
    instead: Callable[..., Any]
    scope: Scope = EVERYTHING


FOLD = state.fold


def makes_what_it_patches(fields: Any, effect: Effect, change: Any) -> Any:
    return change if effect is Effect.PATCH and fields is None else FOLD(fields, effect, change)


def always_rejected(outcome: object, *, answered: bool) -> tuple[Outcome, str]:
    return Outcome.REJECTED, "BAD_REQUEST"


def usual_order(entity: object, candidates: Any, found: object) -> tuple[int, ...] | None:
    return candidates[0][0] if candidates else None


WRONG = {
    "an entity always looks as if the call was applied": Wrong(conclusion, "sign", lambda look: Sign.APPLIED),
    "an entity always looks as if it was not": Wrong(conclusion, "sign", lambda look: Sign.NOT_APPLIED),
    "what other calls did meanwhile is no matter": Wrong(verdict, "supersedes", lambda *_: False, ONE_BATCH),
    "what other calls may have undone is no matter": Wrong(verdict, "undone", lambda *_: False, ONE_BATCH),
    "whatever is in doubt has ended": Wrong(verdict, "may_still_run", lambda reason: False, CREATES),
    "nothing found was made by a create": Wrong(births, "pair", lambda creates, candidates: {}),
    "what is found is given to whoever asks first": Wrong(births, "_vagueness", lambda create: 0, CREATES),
    "the usual order explains whatever is found": Wrong(observation, "explanation", usual_order, ONE_BATCH),
    "a patch makes what is not there": Wrong(state, "fold", makes_what_it_patches),
    "every answer is a rejection": Wrong(judging, "unproven", always_rejected),
    "a key that is taken is free": Wrong(idempotency, "look", lambda *_: None, RETRIES),
    "a call names no entity before": Wrong(judging, "keys_before", lambda *_: ()),
}


def explore(scope: Scope, flaws: frozenset[Flaw] = frozenset()) -> None:
    """Walk by chance through a protocol that is built wrongly, the same ways every time."""
    for seed in range(SEEDS):
        walk(seed, 40, scope, flaws)


@pytest.mark.parametrize("flaw", Flaw)
def test_a_flaw_of_the_protocol_is_found(flaw: Flaw) -> None:
    with pytest.raises(Broken):
        explore(FLAWS[flaw], frozenset({flaw}))


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_decision_of_the_program_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = WRONG[name]
    monkeypatch.setattr(wrong.where, wrong.name, wrong.instead)

    with pytest.raises(Broken):
        explore(wrong.scope)
