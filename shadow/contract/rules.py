"""What a mutation, or an item of a subscription, means as events: pure decisions over plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import msgspec

from shadow.contract.entities import Entity, evaluate
from shadow.contract.problems import ExpressionError
from shadow.events import Draft, Effect, EntityKey
from shadow.expressions import EvaluationError, Expression
from shadow.json import Json
from shadow.state import fold

State: TypeAlias = dict[str, Json] | None
ReadState: TypeAlias = Callable[[EntityKey], State]
KeysOf: TypeAlias = Callable[[str], Iterable[str]]
NewId: TypeAlias = Callable[[], str]
Values: TypeAlias = Mapping[str, Json]

BEFORE: Final = frozenset({"input", "now", "item", "known"})
"""The variables that are known before the legacy is called."""


class Unpredictable:
    """The state after a call cannot be known without the legacy's answer."""

    def __repr__(self) -> str:
        return "UNPREDICTABLE"


UNPREDICTABLE: Final = Unpredictable()


@dataclass(frozen=True, slots=True)
class Fact:
    """What a Python rule says: one event. `key` and `effect` need `entity`; `change` is its new fields."""

    event: str
    channel: str
    data: Json
    entity: str | None = None
    key: str | None = None
    effect: Effect = Effect.NONE
    change: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """What a Python rule is told: an applied call, or an item of a subscription (then `output` is the item)."""

    input: Json
    output: Json
    state: ReadState
    now: int


PythonRule: TypeAlias = Callable[[Happened], Iterable[Fact]]


@dataclass(frozen=True, slots=True)
class EventRule:
    """One event that a call may lead to.

    Its condition is evaluated before its key if it needs neither the key nor the state, so that a key need only
    make sense where the condition holds.
    """

    procedure: str
    where: str
    entity: Entity | None
    effect: Effect
    key: Expression | None
    type: str
    channel: Expression
    data: Expression
    change: Expression | None
    when: Expression | None
    each: Expression | None
    durable: bool = True
    reads_state: bool = field(init=False)
    """Whether any of its expressions needs the state before; reading it is most of a decision's cost."""
    asked_first: bool = field(init=False)
    """Whether the condition comes before the key."""
    key_known_before: bool = field(init=False)
    """Whether the key is known before the legacy is called."""
    condition_known_before: bool = field(init=False)
    """Whether it is known before the legacy is called that the condition holds, or that there is none."""
    makes_unnamed: bool = field(init=False)
    """Whether it brings an entity into being whose key only the answer tells."""

    def __post_init__(self) -> None:
        expressions = (self.channel, self.data, self.change, self.when)
        makes = self.entity is not None and self.effect in {Effect.CREATE, Effect.PUT}
        known = self.key is not None and self.key.variables <= BEFORE
        facts = {
            "reads_state": any("state" in each.variables for each in expressions if each is not None),
            "asked_first": self.when is not None and self.when.variables.isdisjoint({"key", "state"}),
            "key_known_before": known,
            "condition_known_before": self.when is None or self.when.variables <= BEFORE,
            "makes_unnamed": makes and self.key is not None and not known,
        }
        for name, fact in facts.items():
            object.__setattr__(self, name, fact)

    def items(self, values: Values, keys_of: KeysOf | None) -> Iterable[Json]:
        """Return what the rule is applied to: the items of `each`, or the one that there is without it."""
        if self.each is None:
            return (values.get("item"),)
        if "known" in self.each.variables:
            if keys_of is None or self.entity is None:
                raise ExpressionError(self.procedure, f"{self.where}.each", "`known` is not known here")
            values = {**values, "known": sorted(keys_of(self.entity.name))}
        items: list[Json] = self.value(self.each, values, "each")
        return items

    def key_from(self, values: Values) -> EntityKey | None:
        """Return the entity that is meant, None if the event is about none."""
        if self.entity is None or self.key is None:
            return None
        return EntityKey(self.entity.name, str(self.value(self.key, values, "key")))

    def holds(self, values: Values) -> bool:
        """Tell whether the condition is true, or there is none."""
        return self.when is None or bool(self.value(self.when, values, "when"))

    def change_from(self, data: Json, values: Values) -> dict[str, Json] | None:
        """Return what the event puts into the entity's state."""
        if self.entity is None or self.effect is Effect.DELETE or self.effect is Effect.NONE:
            return None
        source = data if self.change is None else self.value(self.change, values, "set")
        return self.entity.change_from(source)

    def value(self, expression: Expression, values: Values, key: str) -> Json:
        """Evaluate one of the rule's expressions; raises ExpressionError."""
        try:
            return expression.evaluate(values)
        except EvaluationError as error:
            raise ExpressionError(self.procedure, f"{self.where}.{key}", str(error)) from None


class Occasion(msgspec.Struct, frozen=True):
    """What the events of one call, or of one item, are made from."""

    values: Values
    read_state: ReadState
    keys_of: KeysOf | None
    now: int
    new_id: NewId
    cause: str | None
    actor: str | None

    def drafts(self, rule: EventRule) -> list[Draft]:
        """Return the events of `rule`, one for each of its items if it has any."""
        drafts: list[Draft] = []
        for item in rule.items(self.values, self.keys_of):
            values = {**self.values, "item": item}
            if rule.asked_first and not rule.holds(values):
                continue
            key = rule.key_from(values)
            if key is not None:
                values["key"] = key.key
                values["state"] = self.read_state(key) if rule.reads_state else None
            if rule.asked_first or rule.holds(values):
                drafts.append(self._draft(rule, key, values))
        return drafts

    def drafts_of_python(self, rule: PythonRule, output: Json, procedure: str, where: str) -> list[Draft]:
        """Return the events that somebody else's function makes; whatever it raises becomes an ExpressionError."""
        happened = Happened(self.values["input"], output, self.read_state, self.now)
        try:
            return [self._draft_of_fact(fact) for fact in rule(happened)]
        except Exception as error:  # noqa: BLE001 - somebody else's code
            # The message of the error may quote data, and so may the frames that lead to it.
            message = f"it raised {type(error).__name__} at {_place(error)}"
            raise ExpressionError(procedure, f"{where}.python", message) from None

    def _draft(self, rule: EventRule, key: EntityKey | None, values: Values) -> Draft:
        data = rule.value(rule.data, values, "data")
        return Draft(
            id=self.new_id(),
            channel=rule.value(rule.channel, values, "channel"),
            type=rule.type,
            time=self.now,
            data=data,
            entity=key,
            effect=rule.effect,
            change=rule.change_from(data, values),
            actor=self.actor,
            cause=self.cause,
        )

    def _draft_of_fact(self, fact: Fact) -> Draft:
        return Draft(
            id=self.new_id(),
            channel=fact.channel,
            type=fact.event,
            time=self.now,
            data=fact.data,
            entity=EntityKey(fact.entity, fact.key) if fact.entity and fact.key else None,
            effect=fact.effect,
            change=fact.change,
            actor=self.actor,
            cause=self.cause,
        )


def _place(error: Exception) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return f"line {frame.tb_lineno} of {frame.tb_frame.f_code.co_name}" if frame is not None else "an unknown line"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A call that the log refuses, with one of tRPC's error codes."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the log answers to a call; `nothing` when the answer holds no value at all, not even null."""

    output: Json
    nothing: bool = False


@dataclass(frozen=True, slots=True)
class RejectRule:
    """A condition under which the log refuses a call."""

    when: Expression
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How the log decides a call by itself, once it is authoritative."""

    procedure: str
    where: str
    reject: tuple[RejectRule, ...]
    id: Expression | None
    output: Expression | None
    varies: tuple[str, ...]
    """Paths in the answer that may differ from the legacy's (ids, times) without being a mismatch."""

    def answer(self, values: Values, new_id: NewId) -> Answer | Rejection:
        """Return the answer; `values` are input, now, and the state before. Raises ExpressionError."""
        for rule in self.reject:
            if evaluate(rule.when, values, self.procedure, self.where, "reject"):
                return rule.rejection
        if self.output is None:
            return Answer(None, nothing=True)
        values = {**values, "id": new_id()}
        if self.id is not None:
            values["id"] = evaluate(self.id, values, self.procedure, self.where, "id")
        return Answer(evaluate(self.output, values, self.procedure, self.where, "output"))


@dataclass(frozen=True, slots=True)
class FindRule:
    """Where to look for what a call made whose answer was lost, when only the answer would have told its key."""

    procedure: str
    where: str
    query: str
    input: Expression
    items: Expression
    match: Expression
    output: Expression

    def input_for(self, input: Json) -> Json:  # noqa: A002
        """Return the query's input for the lost call's input; raises ExpressionError."""
        return evaluate(self.input, {"input": input}, self.procedure, self.where, "input")

    def outputs(self, input: Json, found: Json, since: int) -> list[Json]:  # noqa: A002
        """Return the answers that the lost call may have had, by what the query `found`; raises ExpressionError.

        `since` is when the call was received. Whoever asks leaves out what the log knows already: the same call
        may have been made before.
        """
        values = {"input": input, "output": found}
        outputs = []
        for item in evaluate(self.items, values, self.procedure, self.where, "items"):
            known = {"input": input, "item": item, "since": since}
            if evaluate(self.match, known, self.procedure, self.where, "match"):
                outputs.append(evaluate(self.output, known, self.procedure, self.where, "output"))
        return outputs


@dataclass(frozen=True, slots=True)
class Rule:
    """What a mutation means."""

    procedure: str
    phase: str
    success: Expression | None
    events: tuple[EventRule, ...]
    secret: tuple[str, ...]
    """Paths of secret values in the input, in the output and in the events' data."""
    python: PythonRule | None = None
    answers: AnswerRule | None = None
    """None when the contract does not say how to decide without the legacy."""
    find: FindRule | None = None
    makes_unnamed: bool = field(init=False)
    """Whether one of its events may bring an entity into being whose key only the answer tells."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "makes_unnamed", any(rule.makes_unnamed for rule in self.events))

    @property
    def where(self) -> str:
        """The place in the contract."""
        return f'mutation."{self.procedure}"'

    def keys_before(self, input: Json, now: int, keys_of: KeysOf | None = None) -> tuple[EntityKey, ...]:  # noqa: A002
        """Return the sorted keys, known before the call, of the entities that it may change.

        A key that only the answer tells is not among them, nor one that cannot be read from this input (the
        legacy will say what is wrong with it).
        """
        values = {"input": input, "now": now}
        keys: list[EntityKey] = []
        for rule in self.events:
            if rule.key_known_before:
                keys += _known_before(rule, values, keys_of)
        return tuple(keys) if len(keys) < 2 else tuple(sorted(set(keys)))

    def unnamed(self, input: Json, now: int) -> tuple[EventRule, ...]:  # noqa: A002
        """Return the events of a call that bring an entity into being whose key only the answer tells."""
        if not self.makes_unnamed:
            return ()
        values = {"input": input, "now": now, "item": None}
        return tuple(rule for rule in self.events if rule.makes_unnamed and _may_hold(rule, values))

    def succeeded(self, input: Json, output: Json) -> bool:  # noqa: A002
        """Tell whether an answer without an error means that the mutation was applied; raises ExpressionError."""
        if self.success is None:
            return True
        values = {"input": input, "output": output}
        return bool(evaluate(self.success, values, self.procedure, self.where, "success"))

    def decide(
        self,
        input: Json,  # noqa: A002
        output: Json,
        read_state: ReadState,
        now: int,
        new_id: NewId,
        cause: str | None = None,
        actor: str | None = None,
        *,
        keys_of: KeysOf | None = None,
    ) -> tuple[Draft, ...]:
        """Return the events of an applied call, in the contract's order; raises ExpressionError.

        `output` is None for a call that answers nothing. `read_state` gives the state before the call; `keys_of`
        lists the keys known of an entity and is needed only for rules that use `known`. The drafts share their
        values with `input` and `output`.
        """
        values = {"input": input, "output": output, "now": now}
        occasion = Occasion(values, read_state, keys_of, now, new_id, cause, actor)
        drafts: list[Draft] = []
        for rule in self.events:
            drafts += occasion.drafts(rule)
        if self.python is not None:
            drafts += occasion.drafts_of_python(self.python, output, self.procedure, self.where)
        return tuple(drafts)

    def answer(self, input: Json, read_state: ReadState, now: int, new_id: NewId) -> Answer | Rejection | None:  # noqa: A002
        """Decide the call without the legacy; None if the contract does not say how. Raises ExpressionError.

        `state` in its expressions is that of the first entity known before the call. The events follow from
        `decide` with the answer's output.
        """
        if self.answers is None:
            return None
        key = next(iter(self.keys_before(input, now)), None)
        values = {"input": input, "now": now, "state": read_state(key) if key is not None else None}
        return self.answers.answer(values, new_id)

    def predict(
        self,
        input: Json,  # noqa: A002
        state: State,
        now: int,
        key: EntityKey | None = None,
    ) -> State | Unpredictable:
        """Return the state that `key` has after the call, if its state before is `state` and the call is applied.

        Without `key`, the first of `keys_before` is meant. UNPREDICTABLE when the answer is needed to know.
        """
        wanted = key or next(iter(self.keys_before(input, now)), None)
        if wanted is None or self.python is not None:
            return UNPREDICTABLE
        values = {"input": input, "now": now, "state": state, "key": wanted.key}
        after = state
        try:
            for rule in self.events:
                after = _predicted(rule, wanted, values, after)
        except ExpressionError:
            return UNPREDICTABLE
        return after


def _known_before(rule: EventRule, values: Values, keys_of: KeysOf | None) -> list[EntityKey]:
    """Return the keys that `rule`, whose key is known before the call, may touch."""
    keys: list[EntityKey] = []
    try:
        for item in rule.items(values, keys_of):
            with_item = {**values, "item": item}
            if rule.when is not None and rule.condition_known_before and not rule.holds(with_item):
                continue
            key = rule.key_from(with_item)
            if key is not None:
                keys.append(key)
    except ExpressionError:
        pass
    return keys


def _may_hold(rule: EventRule, values: Values) -> bool:
    """Tell whether the rule's condition may hold, by what is known before the call."""
    try:
        return not rule.condition_known_before or rule.holds(values)
    except ExpressionError:
        return False


def _predicted(rule: EventRule, wanted: EntityKey, values: Values, after: State) -> State:
    """Fold the rule's event on `wanted`, if there is one; raises ExpressionError if it takes the answer to know."""
    if rule.entity is None or rule.entity.name != wanted.entity or rule.effect is Effect.NONE:
        return after
    for item in rule.items(values, None):
        known = {**values, "item": item}
        if rule.asked_first and not rule.holds(known):
            continue
        if rule.key_from(known) == wanted and (rule.asked_first or rule.holds(known)):
            data = rule.value(rule.data, known, "data") if rule.change is None else None
            after = fold(after, rule.effect, rule.change_from(data, known))
    return after


@dataclass(frozen=True, slots=True)
class Told:
    """An event made from an item of a subscription. One that is not durable is shown to subscribers, not kept."""

    draft: Draft
    durable: bool


@dataclass(frozen=True, slots=True)
class Tap:
    """What the items of a legacy subscription mean."""

    procedure: str
    phase: str
    events: tuple[EventRule, ...]
    secret: tuple[str, ...]
    python: PythonRule | None = None

    @property
    def where(self) -> str:
        """The place in the contract."""
        return f'tap."{self.procedure}"'

    def decide(
        self,
        input: Json,  # noqa: A002
        item: Json,
        read_state: ReadState,
        now: int,
        new_id: NewId,
        cause: str | None = None,
        actor: str | None = None,
    ) -> tuple[Told, ...]:
        """Return the events of one item, in the contract's order; raises ExpressionError."""
        occasion = Occasion({"input": input, "item": item, "now": now}, read_state, None, now, new_id, cause, actor)
        told = [Told(draft, rule.durable) for rule in self.events for draft in occasion.drafts(rule)]
        if self.python is not None:
            drafts = occasion.drafts_of_python(self.python, item, self.procedure, self.where)
            told += [Told(draft, durable=True) for draft in drafts]
        return tuple(told)
