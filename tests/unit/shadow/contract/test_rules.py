"""What a mutation means as events."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from shadow.contract import UNPREDICTABLE, Answer, Contract, ExpressionError, Rejection, Rule, Tap, parse
from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json

SESSION = EntityKey("session", "s1")
HEAD = """
[phase.sessions]
entities = ["session", "message"]
[phase.config]
entities = ["provider"]
[entity.session]
key = "item.id"
fields = ["title", "model"]
[entity.message]
key = "item.id"
fields = ["content"]
[entity.provider]
key = "name"
fields = ["apiKey"]
"""


def contract(text: str) -> Contract:
    return parse(HEAD + dedent(text), "contract.toml")


def mutation(text: str) -> Rule:
    (rule,) = contract('[mutation."a.b"]\n' + dedent(text)).mutations.values()
    return rule


def tap(text: str) -> Tap:
    (rule,) = contract('[tap."a.b"]\n' + dedent(text)).taps.values()
    return rule


def ids() -> Callable[[], str]:
    count = itertools.count(1)
    return lambda: f"event-{next(count)}"


def decide(rule: Rule, input: Json, output: Json = None, state: dict[str, Json] | None = None) -> tuple[Draft, ...]:  # noqa: A002
    return rule.decide(
        input, output, lambda key: state, 1000, ids(), "intent:1", "ann", keys_of=lambda entity: ["p2", "p1"]
    )


RENAME = mutation(
    """
    entity = "session"
    key = "input.id"
    effect = "patch"
    event = "session-title-updated"
    channel = "'session:' + key"
    data = "{'sessionId': key, 'title': input.title, 'was': state == null ? null : state.title}"
    """
)
CREATE = mutation(
    """
    entity = "session"
    key = "output.id"
    effect = "create"
    event = "session-created"
    channel = "'session:' + key"
    data = "{'sessionId': key}"
    set = "output"
    """
)
SAVE_PROVIDER = mutation(
    """
    success = "output.success"
    entity = "provider"
    key = "input.id"
    effect = "put"
    channel = "'config:ai'"
    data = "{'provider': key}"
    set = "input.config"
    events = [
        { when = "state == null", event = "provider-added" },
        { when = "state != null", event = "provider-updated" },
    ]
    """
)
ADD_MESSAGE = mutation(
    """
    channel = "'session:' + output.sessionId"
    [[mutation."a.b".events]]
    when = "input.sessionId == null"
    entity = "session"
    key = "output.sessionId"
    effect = "create"
    event = "session-created"
    data = "{'model': input.model}"
    [[mutation."a.b".events]]
    when = "input.sessionId != null"
    entity = "session"
    key = "input.sessionId"
    effect = "none"
    event = "session-touched"
    data = "{}"
    [[mutation."a.b".events]]
    entity = "message"
    key = "output.messageId"
    effect = "create"
    event = "message-added"
    data = "{'content': input.content}"
    """
)
SAVE_ALL = mutation(
    """
    channel = "'config:ai'"
    entity = "provider"
    data = "{'provider': key}"
    [[mutation."a.b".events]]
    each = "known.filter(id, !(id in input.providers))"
    key = "item"
    effect = "delete"
    event = "provider-removed"
    [[mutation."a.b".events]]
    each = "input.providers.map(id, id).sort()"
    key = "item"
    effect = "put"
    event = "provider-updated"
    set = "input.providers[key]"
    """
)


def test_an_applied_call_becomes_an_event_on_its_entity() -> None:
    drafts = decide(RENAME, {"id": "s1", "title": "Tea"}, state={"title": "Coffee"})

    assert drafts == (
        Draft(
            id="event-1",
            channel="session:s1",
            type="session-title-updated",
            time=1000,
            data={"sessionId": "s1", "title": "Tea", "was": "Coffee"},
            entity=SESSION,
            effect=Effect.PATCH,
            change={"title": "Tea"},
            actor="ann",
            cause="intent:1",
        ),
    )


def test_what_the_server_chose_goes_into_the_state_as_far_as_it_is_a_field() -> None:
    (draft,) = decide(CREATE, {}, {"id": "s1", "title": None, "model": "m", "created": 5})

    assert draft.change == {"title": None, "model": "m"}
    assert draft.data == {"sessionId": "s1"}


@pytest.mark.parametrize(("state", "type_"), [(None, "provider-added"), ({}, "provider-updated")])
def test_one_call_means_one_event_or_another_by_what_was_there(state: dict[str, Json] | None, type_: str) -> None:
    (draft,) = decide(SAVE_PROVIDER, {"id": "p", "config": {"apiKey": "k", "unknown": 1}}, {"success": True}, state)

    assert (draft.type, draft.effect, draft.change) == (type_, Effect.PUT, {"apiKey": "k"})


def test_one_call_may_mean_several_events_on_several_entities() -> None:
    drafts = decide(
        ADD_MESSAGE, {"sessionId": None, "model": "m", "content": "Hi"}, {"sessionId": "s1", "messageId": "m1"}
    )

    assert [(draft.type, draft.entity) for draft in drafts] == [
        ("session-created", SESSION),
        ("message-added", EntityKey("message", "m1")),
    ]


def test_one_call_may_mean_an_event_for_each_of_its_items() -> None:
    drafts = decide(SAVE_ALL, {"providers": {"p3": {"apiKey": "3"}, "p2": {"apiKey": "2"}}})

    assert [(draft.type, draft.entity.key if draft.entity else "", draft.change) for draft in drafts] == [
        ("provider-removed", "p1", None),
        ("provider-updated", "p2", {"apiKey": "2"}),
        ("provider-updated", "p3", {"apiKey": "3"}),
    ]


def test_a_rule_that_needs_the_known_entities_says_so_when_it_is_not_told() -> None:
    with pytest.raises(ExpressionError) as failure:
        SAVE_ALL.decide({"providers": {}}, None, lambda key: None, 1000, ids())

    assert str(failure.value) == 'a.b: mutation."a.b".events[0].each: `known` is not known here'


def test_a_number_may_be_a_key_and_becomes_text() -> None:
    (draft,) = decide(RENAME, {"id": 42, "title": "Tea"})

    assert (draft.entity, draft.channel) == (EntityKey("session", "42"), "session:42")


def test_an_answer_without_an_error_is_not_yet_success() -> None:
    assert SAVE_PROVIDER.succeeded({}, {"success": True}) is True
    assert SAVE_PROVIDER.succeeded({}, {"success": False, "error": "no"}) is False
    assert RENAME.succeeded({}, None) is True


@pytest.mark.parametrize(
    ("rule", "input_", "output", "message"),
    [
        (RENAME, {"id": "s1"}, None, 'a.b: mutation."a.b".data: `input` has no `title`'),
        (
            RENAME,
            {"id": True, "title": "Tea"},
            None,
            'a.b: mutation."a.b".key: it gives true or false, but text or a whole number is needed',
        ),
        (CREATE, {}, None, 'a.b: mutation."a.b".key: `output` is null, so it has no `id`'),
        (
            ADD_MESSAGE,
            {"sessionId": None},
            {"sessionId": "s"},
            'a.b: mutation."a.b".events[0].data: `input` has no `model`',
        ),
    ],
)
def test_an_expression_that_fails_names_its_place(rule: Rule, input_: Json, output: Json, message: str) -> None:
    with pytest.raises(ExpressionError) as failure:
        decide(rule, input_, output)

    assert str(failure.value) == message


def test_success_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(ExpressionError, match=r'^a.b: mutation."a.b".success: `output` has no `success`$'):
        SAVE_PROVIDER.succeeded({}, {})


@pytest.mark.parametrize(
    ("rule", "input_", "keys"),
    [
        (RENAME, {"id": "s1"}, [SESSION]),
        (RENAME, {}, []),
        (RENAME, None, []),
        (CREATE, {"id": "s1"}, []),
        (ADD_MESSAGE, {"sessionId": "s1"}, [SESSION]),
        (ADD_MESSAGE, {"sessionId": None}, []),
        (SAVE_ALL, {"providers": {"p3": {}}}, [EntityKey("provider", key) for key in ("p1", "p2", "p3")]),
    ],
)
def test_the_keys_known_before_the_call_are_those_that_take_no_answer(
    rule: Rule, input_: Json, keys: list[EntityKey]
) -> None:
    assert list(rule.keys_before(input_, 1000, lambda entity: ["p2", "p1"])) == keys


@pytest.mark.parametrize(
    ("rule", "input_", "state", "after"),
    [
        (RENAME, {"id": "s1", "title": "Tea"}, {"title": "Coffee", "model": "m"}, {"title": "Tea", "model": "m"}),
        (RENAME, {"id": "s1", "title": "Tea"}, None, None),
        (RENAME, {"id": "s1"}, {"title": "Coffee"}, UNPREDICTABLE),
        (CREATE, {"id": "s1"}, None, UNPREDICTABLE),
        (SAVE_PROVIDER, {"id": "p", "config": {"apiKey": "k"}}, None, {"apiKey": "k"}),
        (SAVE_PROVIDER, {"id": "p", "config": {"apiKey": "k"}}, {"apiKey": "old"}, {"apiKey": "k"}),
        (ADD_MESSAGE, {"sessionId": "s1"}, {"title": "Tea"}, {"title": "Tea"}),
    ],
)
def test_the_state_after_a_call_is_predicted_where_that_takes_no_answer(
    rule: Rule, input_: Json, state: dict[str, Json] | None, after: object
) -> None:
    assert rule.predict(input_, state, 1000) == after


def test_a_deletion_is_predicted() -> None:
    rule = mutation(
        """
        entity = "session"
        key = "input.id"
        effect = "delete"
        event = "session-deleted"
        channel = "'session:' + key"
        data = "{}"
        """
    )

    assert rule.predict({"id": "s1"}, {"title": "Tea"}, 1000) is None


STREAM = tap(
    """
    entity = "session"
    key = "item.sessionId"
    channel = "'session:' + key"
    [[tap."a.b".events]]
    when = "item.type == 'title-complete'"
    effect = "patch"
    event = "session-title-updated"
    data = "{'title': item.title}"
    [[tap."a.b".events]]
    when = "item.type == 'text-delta'"
    effect = "none"
    event = "text-delta"
    data = "{'text': item.text}"
    durable = false
    """
)


def test_items_of_a_subscription_become_durable_or_passing_events() -> None:
    items = [
        {"type": "text-delta", "sessionId": "s1", "text": "Hel"},
        {"type": "other"},
        {"type": "title-complete", "sessionId": "s1", "title": "Tea"},
    ]
    told = [tell for item in items for tell in STREAM.decide({}, item, lambda key: None, 1000, ids())]

    assert [(tell.draft.type, tell.durable, tell.draft.change) for tell in told] == [
        ("text-delta", False, None),
        ("session-title-updated", True, {"title": "Tea"}),
    ]


PYTHON_RULE = """
from shadow.contract import Fact
from shadow.events import Effect

def rename(happened):
    state = happened.state(("session", "s1"))
    change = {"title": happened.input["title"]}
    yield Fact("renamed", "session:s1", {"was": state}, "session", "s1", Effect.PATCH, change)
"""


def test_a_python_function_says_what_expressions_cannot(tmp_path: Path) -> None:
    (tmp_path / "rules_of_this_test.py").write_text(PYTHON_RULE)
    text = HEAD + '[mutation."a.b"]\nentity = "session"\npython = "rules_of_this_test:rename"\n'
    rule = parse(text, str(tmp_path / "contract.toml")).mutations["a.b"]

    (draft,) = decide(rule, {"title": "Tea"}, state={"title": "Coffee"})

    assert (draft.type, draft.entity, draft.change, draft.data) == (
        "renamed",
        SESSION,
        {"title": "Tea"},
        {"was": {"title": "Coffee"}},
    )
    assert rule.predict({"title": "Tea"}, None, 1000, SESSION) is UNPREDICTABLE
    with pytest.raises(ExpressionError, match=r"python: it raised KeyError at line 7 of rename$"):
        decide(rule, {"secret": "sk-1"})


OWN = mutation(
    """
    entity = "session"
    key = "input.id"
    effect = "create"
    event = "session-created"
    channel = "'session:' + key"
    data = "{'title': output.title}"
    [mutation."a.b".answer]
    reject = [{ when = "state != null", code = "CONFLICT", message = "It is there already" }]
    id = "'session-' + id"
    output = "{'id': id, 'title': input.title, 'created': now}"
    varies = ["id", "created"]
    """
)


def test_the_log_can_decide_a_call_by_itself() -> None:
    answer = OWN.answer({"id": "s1", "title": "Tea"}, lambda key: None, 1000, ids())

    assert answer == Answer({"id": "session-event-1", "title": "Tea", "created": 1000})


def test_the_log_refuses_what_a_rule_rejects() -> None:
    rejection = OWN.answer({"id": "s1"}, lambda key: {"title": "Tea"}, 1000, ids())

    assert rejection == Rejection("CONFLICT", "It is there already")


def test_a_contract_may_leave_deciding_to_the_legacy() -> None:
    assert RENAME.answer({}, lambda key: None, 1000, ids()) is None


def test_an_answer_without_an_output_holds_nothing() -> None:
    rule = mutation(
        """
        entity = "session"
        key = "input.id"
        effect = "delete"
        event = "session-deleted"
        channel = "'session:' + key"
        data = "{}"
        answer = {}
        """
    )

    assert rule.answer({"id": "s1"}, lambda key: None, 1000, ids()) == Answer(None, nothing=True)


FIND = mutation(
    """
    entity = "session"
    key = "output.id"
    effect = "create"
    event = "session-created"
    channel = "'session:' + key"
    data = "{'title': input.title}"
    [mutation."a.b".find]
    query = "session.getRecent"
    input = "{'limit': 100}"
    items = "output.sessions"
    match = "item.created >= since && item.title == input.title"
    output = "{'id': item.id}"
    """
).find


def test_what_a_lost_call_made_is_found_among_what_the_legacy_shows() -> None:
    assert FIND is not None
    call = {"title": "Tea"}
    shown = [("s1", 999, "Tea"), ("s2", 1000, "Tea"), ("s3", 1001, "Coffee"), ("s4", 1001, "Tea")]
    found = {"sessions": [{"id": id_, "created": created, "title": title} for id_, created, title in shown]}

    assert FIND.input_for(call) == {"limit": 100}
    assert FIND.outputs(call, found, since=1000) == [{"id": "s2"}, {"id": "s4"}]
    with pytest.raises(ExpressionError, match=r"find.items: `output` has no `sessions`$"):
        FIND.outputs(call, {}, since=1000)
