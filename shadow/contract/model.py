"""A checked contract: everything that a file says, ready to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from shadow.contract.entities import Entity, evaluate
from shadow.contract.rules import Rule, Tap
from shadow.events import matches
from shadow.expressions import Expression
from shadow.json import Json


class Transformer(StrEnum):
    """How the legacy writes what JSON cannot hold."""

    NONE = "none"
    SUPERJSON = "superjson"
    DEVALUE = "devalue"


class Ordering(StrEnum):
    """How the order of events on one entity is made sure of."""

    STRICT = "strict"
    """Calls on one entity wait for each other."""
    OBSERVED = "observed"
    """Calls overlap; where they did, the entity is read from the legacy to see how it ended."""


class OnLogFailure(StrEnum):
    """What happens to a mutation while the log cannot be written."""

    FAIL_CLOSED = "fail_closed"
    """It is refused before it reaches the legacy."""
    FAIL_OPEN = "fail_open"
    """It goes on, is spooled to a local file, and the phase is marked dirty."""


class Answerer(StrEnum):
    """Who answers the procedures of the overlay's namespace."""

    PROXY = "proxy"
    LEGACY = "legacy"


@dataclass(frozen=True, slots=True)
class Legacy:
    """The existing API. `max_request` in seconds: a lost request can apply no later than that."""

    base_path: str
    transformer: Transformer
    max_request: float
    separator: str = "."
    """What stands between the parts of a procedure's name in a URL; everywhere else it is a dot."""
    probe: bool = True
    """Whether a PUT, which runs nothing, may ask what kind a procedure without a rule is."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """The procedures that the proxy adds to the API."""

    namespace: str
    answered_by: Answerer


@dataclass(frozen=True, slots=True)
class Phase:
    """What is cut over together."""

    name: str
    entities: tuple[str, ...]
    procedures: tuple[str, ...]
    """Procedures of this phase that concern none of its entities."""
    ordering: Ordering
    on_log_failure: OnLogFailure


@dataclass(frozen=True, slots=True)
class Open:
    """Everybody may see the channel."""


@dataclass(frozen=True, slots=True)
class Token:
    """Who shows the subscribers' token may see the channel."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Who may make this query of the legacy, with an answer that satisfies `allow`, may see the channel."""

    where: str
    query: str
    input: Expression
    allow: Expression

    def input_for(self, channel: str, suffix: str) -> Json:
        """Return the query's input; `suffix` is what the pattern's `*` stands for in `channel`."""
        return evaluate(self.input, {"channel": channel, "suffix": suffix}, self.query, self.where, "input")

    def allowed(self, output: Json) -> bool:
        """Tell whether the query's answer allows to see the channel."""
        return bool(evaluate(self.allow, {"output": output}, self.query, self.where, "allow"))


Visibility: TypeAlias = Open | Token | Ask


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a channel's events are kept: without a bound when both are None. `age` in seconds."""

    age: float | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Publishable:
    """A type of event that clients may publish themselves, with the fields that its data must and may have."""

    type: str
    required: frozenset[str]
    optional: frozenset[str]
    durable: bool = True

    def faults(self, data: Json) -> tuple[str, ...]:
        """Return what is wrong with an event's data, in sentences that contain no values."""
        if not isinstance(data, dict):
            return ("the payload is no object",)
        missing = sorted(self.required - data.keys())
        unknown = sorted(data.keys() - self.required - self.optional - {"type"})
        return tuple(f"the field {name!r} is missing" for name in missing) + tuple(
            f"there is no field {name!r} in a {self.type!r}" for name in unknown
        )


@dataclass(frozen=True, slots=True)
class Channel:
    """The rules for the channels that a pattern names."""

    pattern: str
    see: Visibility
    retention: Retention
    publish: tuple[Publishable, ...]

    def suffix(self, channel: str) -> str:
        """Return what the pattern's `*` stands for in `channel`, empty if there is none."""
        return channel[len(self.pattern) - 1 :] if self.pattern.endswith("*") else ""


@dataclass(frozen=True, slots=True)
class Contract:
    """What each call of the legacy means. Equal hashes mean equal contracts; comments and layout do not count."""

    source: str
    hash: str
    legacy: Legacy
    overlay: Overlay
    phases: Mapping[str, Phase]
    entities: Mapping[str, Entity]
    mutations: Mapping[str, Rule]
    taps: Mapping[str, Tap]
    channels: tuple[Channel, ...]
    """From the most particular pattern to the most general."""
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """The line of each table and key in the file."""

    def phase_of(self, procedure: str) -> str | None:
        """Return the phase of a mutation or a tapped subscription; None if the contract does not know it."""
        rule = self.mutations.get(procedure) or self.taps.get(procedure)
        return rule.phase if rule is not None else None

    def channel_rules(self, channel: str) -> Channel | None:
        """Return the rules of the most particular pattern that names `channel`."""
        return next((rules for rules in self.channels if matches(rules.pattern, channel)), None)

    @property
    def names_secrets(self) -> bool:
        """Tell whether anything is to be encrypted, so that a key is needed."""
        return (
            any(rule.secret for rule in self.mutations.values())
            or any(tap.secret for tap in self.taps.values())
            or any(entity.secret for entity in self.entities.values())
        )
