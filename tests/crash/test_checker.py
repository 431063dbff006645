"""The checker finds every broken promise that is planted in the facts of a faultless run, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from shadow.events import EntityKey
from shadow.journal import Outcome
from tests.crash.checker import Promise, longest, overruns, quarantined, violations
from tests.crash.facts import Entry, Facts, Fields, Row, Said, Told, Turn

SESSION = EntityKey("session", "s")
RULE = EntityKey("rule", "concise")

MADE: Fields = {"title": None, "model": "t1", "provider": "openai", "agentId": "coder", "enabledRuleIds": []}
ONCE: Fields = {**MADE, "title": "t2"}
TWICE: Fields = {**MADE, "title": "t3"}


def said(token: str, procedure: str, **more: Any) -> Said:
    return Said(token, procedure, acknowledged=True, events=1, sent=0, heard=100, **more)


def entry(id: int, token: str, procedure: str, key: EntityKey | None, **more: Any) -> Entry:
    known: dict[str, Any] = {"outcome": Outcome.APPLIED, "received": 0, "deadline": 500, "settled": 50, "epoch": 1}
    return Entry(id, token, procedure, "sessions", key=key, **(known | more))


FAULTLESS = Facts(
    said=(
        said("t1", "session.create"),
        said("t2", "session.updateTitle", keyed=True),
        said("t3", "session.updateTitle"),
        said("t4", "rules.toggle"),
    ),
    rows=(
        Row(1, "session.create", SESSION, 10, MADE),
        Row(2, "session.updateTitle", SESSION, 20, ONCE),
        Row(3, "session.updateTitle", SESSION, 30, TWICE),
        Row(4, "rules.toggle", RULE, 40, None, shown=False),
    ),
    entries=(
        entry(1, "t1", "session.create", None),
        entry(2, "t2", "session.updateTitle", SESSION),
        entry(3, "t3", "session.updateTitle", SESSION),
        entry(4, "t4", "rules.toggle", RULE),
    ),
    told=(
        Told(11, "session-created", SESSION, 1),
        Told(12, "session-title-updated", SESSION, 2),
        Told(13, "session-title-updated", SESSION, 3),
        Told(14, "rule-toggled", RULE, 4),
    ),
    turns=(Turn(1, "sessions", 1),),
    legacy={SESSION: TWICE, RULE: {"enabled": True}},
    state={SESSION: TWICE, RULE: {"enabled": True}},
    bound=1000,
)
"""Four mutations, each acknowledged, applied once, and told of once, in the legacy's order."""

CREATE, TITLE, TITLE_AGAIN, TOGGLE = range(4)
"""Where each of them stands in the facts."""


def changed(name: str, place: int, facts: Facts, **changes: Any) -> Facts:
    """Change one of the calls, rows, intents or events."""
    there = list(getattr(facts, name))
    there[place] = replace(there[place], **changes)
    return having(facts, name, there)


def having(facts: Facts, name: str, there: Iterable[Any]) -> Facts:
    return replace(facts, **{name: tuple(there)})  # type: ignore[arg-type]  # the name says which


def with_said(place: int, facts: Facts = FAULTLESS, **changes: Any) -> Facts:
    return changed("said", place, facts, **changes)


def with_entry(place: int, facts: Facts = FAULTLESS, **changes: Any) -> Facts:
    return changed("entries", place, facts, **changes)


def with_state(ours: Fields, state: Fields) -> Facts:
    """Let the legacy and the log have these fields of the session besides."""
    legacy = {**FAULTLESS.legacy, SESSION: {**TWICE, **ours}}
    return replace(FAULTLESS, legacy=legacy, state={**FAULTLESS.state, SESSION: {**TWICE, **state}})


def without(name: str, place: int, facts: Facts = FAULTLESS) -> Facts:
    """Take one row, intent or event away."""
    return having(facts, name, (one for number, one in enumerate(getattr(facts, name)) if number != place))


def plus(name: str, *more: Any) -> Facts:
    """Add rows, intents or events behind the others."""
    return having(FAULTLESS, name, (*getattr(FAULTLESS, name), *more))


def swapped() -> Facts:
    """Exchange the places of the two events on titles."""
    create, first, second, toggle = FAULTLESS.told
    return having(FAULTLESS, "told", (create, replace(second, position=12), replace(first, position=13), toggle))


def found(place: int, fields: Fields | None) -> Facts:
    """Let a call be settled by what a look found instead of its own event, and the client not know."""
    facts = with_entry(place, with_said(place, acknowledged=False), outcome=Outcome.OBSERVED, detail="as_found")
    return changed("told", place, facts, type="entity-observed", found=True, fields=fields)


SEEN_WITHOUT_ROW = without("rows", TOGGLE, with_entry(TOGGLE, detail="as_predicted"))
NOT_APPLIED = with_entry(TOGGLE, with_said(TOGGLE, acknowledged=False), outcome=Outcome.NOT_APPLIED)

PLANTED = [
    ("its event is missing", Promise.LOST, without("told", TITLE)),
    ("its intent and its event are missing", Promise.LOST, without("told", TITLE, without("entries", TITLE))),
    ("it is taken for refused", Promise.LOST, without("told", TOGGLE, with_entry(TOGGLE, outcome=Outcome.REJECTED))),
    ("it has two events", Promise.REPEATED, plus("told", replace(FAULTLESS.told[TITLE_AGAIN], position=15))),
    ("it is applied as two intents", Promise.REPEATED, plus("entries", replace(FAULTLESS.entries[TITLE], id=5))),
    ("one key had two effects", Promise.REPEATED, plus("rows", replace(FAULTLESS.rows[TITLE], seq=5, at=45))),
    ("an event's intent was not applied", Promise.INVENTED, with_entry(TOGGLE, outcome=Outcome.NOT_APPLIED)),
    ("an event has no intent", Promise.INVENTED, plus("told", Told(15, "session-created", SESSION, 99))),
    ("the legacy never did it", Promise.INVENTED, without("rows", TITLE_AGAIN)),
    ("the legacy did it less often", Promise.INVENTED, without("rows", TOGGLE)),
    ("it was seen, and no row of a living legacy tells of it", Promise.INVENTED, SEEN_WITHOUT_ROW),
    ("it was answered, and the legacy died", Promise.INVENTED, replace(without("rows", TOGGLE), legacy_kills=1)),
    ("a look found what never was", Promise.INVENTED, found(TITLE, {**MADE, "title": "never"})),
    ("the legacy did what was not applied", Promise.DENIED, with_entry(TITLE_AGAIN, outcome=Outcome.NOT_APPLIED)),
    ("it is still open", Promise.UNSETTLED, with_entry(TOGGLE, outcome=Outcome.OPEN, settled=None)),
    ("it is still in doubt", Promise.UNSETTLED, with_entry(TOGGLE, outcome=Outcome.IN_DOUBT, settled=60)),
    ("it was in doubt for too long", Promise.UNSETTLED, with_entry(TITLE, settled=1001)),
    ("two events change places", Promise.DISORDERED, swapped()),
    ("a look tells of an earlier time", Promise.DISORDERED, found(TITLE_AGAIN, MADE)),
    ("a look tells of a later time", Promise.DISORDERED, found(TITLE, TWICE)),
    ("the stage changed under it", Promise.TORN, plus("turns", Turn(12, "sessions", 2))),
    ("the state has another value", Promise.DRIFTED, replace(FAULTLESS, state={**FAULTLESS.state, SESSION: ONCE})),
    ("the state lacks it", Promise.DRIFTED, replace(FAULTLESS, state={RULE: {"enabled": True}})),
    ("the state has more", Promise.DRIFTED, replace(FAULTLESS, legacy={**FAULTLESS.legacy, SESSION: None})),
    ("the chain is broken", Promise.BROKEN, replace(FAULTLESS, broken="position 12")),
    ("a secret is in clear", Promise.LEAKED, replace(FAULTLESS, leaked=("1 secrets in proxy.log",))),
]


def test_a_faultless_run_breaks_no_promise() -> None:
    assert violations(FAULTLESS) == []


@pytest.mark.parametrize(("promise", "facts"), [one[1:] for one in PLANTED], ids=[one[0] for one in PLANTED])
def test_what_is_planted_is_found(promise: Promise, facts: Facts) -> None:
    assert promise in {violation.promise for violation in violations(facts)}


def test_each_way_to_break_a_promise_is_planted() -> None:
    assert {promise for _, promise, _ in PLANTED} == set(Promise)


EXCUSED = [
    ("nobody heard of it, and it was not done", without("rows", TOGGLE, without("told", TOGGLE, NOT_APPLIED))),
    ("a look found it as it then was", found(TITLE, ONCE)),
    ("a secret is known by its mask", with_state({"apiKey": "sk-1234567"}, {"apiKey": "sk-1234***"})),
    ("it took as long as somebody was away", replace(with_entry(TITLE, settled=1500), down=500)),
    ("the legacy died when the file was saved, and before it said so", replace(SEEN_WITHOUT_ROW, legacy_kills=1)),
    ("its phase was off", without("entries", TOGGLE, without("told", TOGGLE, with_said(TOGGLE, mirrored=False)))),
]


@pytest.mark.parametrize("facts", [one[1] for one in EXCUSED], ids=[one[0] for one in EXCUSED])
def test_what_is_promised_otherwise_is_no_violation(facts: Facts) -> None:
    assert violations(facts) == []


def test_a_doubt_that_the_contract_cannot_read_is_counted_apart() -> None:
    doubt = with_entry(TOGGLE, with_said(TOGGLE, acknowledged=False), outcome=Outcome.IN_DOUBT, detail="quarantined:x")
    facts = without("told", TOGGLE, doubt)

    assert violations(facts) == []
    assert [one.token for one in quarantined(facts)] == ["t4"]


def test_a_change_after_its_time_is_counted_apart_and_nobody_vouches_for_it() -> None:
    """The contract said that no call lives longer: it was not applied when the proxy looked, and then it was."""
    unheard = with_said(TITLE_AGAIN, acknowledged=False)
    late = with_entry(TITLE_AGAIN, unheard, outcome=Outcome.NOT_APPLIED, deadline=25)
    late = replace(without("told", TITLE_AGAIN, late), state={**FAULTLESS.state, SESSION: ONCE})

    assert [row.seq for row in overruns(late)] == [3]
    assert violations(late) == []


def test_a_change_that_shows_no_token_is_late_when_no_call_for_it_could_still_run() -> None:
    assert [row.seq for row in overruns(with_entry(TOGGLE, deadline=39))] == [4]
    assert overruns(with_entry(TOGGLE, deadline=40)) == []


def test_a_second_try_does_not_excuse_the_first() -> None:
    """The change came before the second try began, and after the time of the first."""
    second = entry(5, "t2", "session.updateTitle", SESSION, received=25, deadline=525)
    facts = with_entry(TITLE, outcome=Outcome.NOT_APPLIED, deadline=15)

    assert [row.seq for row in overruns(replace(facts, entries=(*facts.entries, second)))] == [2]


def test_the_longest_doubt_is_the_longest_time_until_an_outcome() -> None:
    assert longest(with_entry(TITLE, settled=777)) == 777
    assert longest(Facts()) == 0
