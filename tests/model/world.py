"""The values of the model: a proxy's memory, and the world around it. Nothing here is ever changed, only replaced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto
from itertools import count
from typing import Final

from proxy.births import Candidate, Create
from proxy.judging import Call
from proxy.verdict import Look
from shadow.events import EntityKey
from shadow.journal import Outcome, Settlement
from shadow.stages import Stage
from tests.model.database import Command, Database, Result
from tests.model.legacy import Legacy

TICK: Final = 10_000
"""Milliseconds that pass at once."""
ALLOWANCE: Final = TICK
"""How long a call may take from its intent until it is forwarded."""


class Flaw(StrEnum):
    """Ways to build the protocol wrongly, each of which the exploration has to find out."""

    ANSWER_BEFORE_COMMIT = "the client hears of success before it is durable"
    FORWARD_BEFORE_INTENT = "a call is forwarded before its intent is durable"
    FORWARD_LATE = "a call is forwarded however long ago its intent was made"
    NO_LOCKS = "calls on one entity do not wait for each other"
    DOUBT_WITHOUT_LOCKS = "a call in doubt lets the locks go"
    NO_WAIT_FOR_CREATES = "a call for an unknown entity does not wait for the creates under way"
    EAGER_DOUBT = "a doubt is looked into before its call can no longer apply"
    NO_RECOVERY = "a restart leaves open intents alone"
    OWED_DOUBT_FORGOTTEN = "a doubt that the log took late counts as resolved"
    NO_TURNS = "two doubts on one entity are looked into at once"
    NO_WAIT_FOR_MAKERS = "a create in doubt is given what a create under way has made"
    NAMED_IS_STRANGE = "a create in doubt is given what another call has named"
    OTHERS_IGNORED = "creates in doubt are attributed one by one"
    NO_FENCE = "a stage is changed while mutations are under way"
    STAGE_UNHEARD = "a stage change that nobody heard of counts as not made"
    NO_LOOK_AT_ORDER = "members of one batch are taken to be applied in their order"
    WRITTEN_AGAIN = "what the log may have taken is written again under new names"
    DOUBT_TAKEN_FOR_FAILURE = "a lost answer counts as a rejection"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as its client sent it."""

    number: int
    calls: tuple[Call, ...]
    key: str | None = None
    """Its idempotency key."""

    @property
    def name(self) -> str:
        """The request id in the journal."""
        return f"r{self.number}"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client heard: of each call whether it succeeded; `done` is None when nobody can or will say."""

    request: int
    done: tuple[bool, ...] | None = None


class At(Enum):
    """Where a request stands in the proxy."""

    OUTSIDE = auto()
    """The fence is closed."""
    WAITING = auto()
    """For its entities."""
    BEGINNING = auto()
    """The log was asked to take its intents."""
    RECALLING = auto()
    """Its idempotency key is taken."""
    INTENDED = auto()
    FORWARDED = auto()
    ANSWERED = auto()
    """The answer is here; which of its calls came last has to be looked at."""
    SETTLING = auto()
    """The log was asked to take its outcomes."""
    REFUSED = auto()
    """The log did not take its outcomes."""
    SETTLED = auto()
    CORRECTING = auto()
    """The log was asked to take what was found when it was settled."""
    TELLING = auto()
    """Its locks are free; its answer is on its way."""


@dataclass(frozen=True, slots=True)
class Making:
    """A create under way, or in doubt, whose key only its answer tells."""

    number: int
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class Request:
    """A request inside the proxy."""

    sent: Sent
    at: At
    received: int
    epoch: int = 0
    """Under which stage it is handled."""
    waits: frozenset[int] = frozenset()
    """The creates that have to end before it may lock what it is about."""
    keys: tuple[tuple[EntityKey, ...], ...] = ()
    """The entities of each call, as far as they are known before."""
    held: frozenset[EntityKey] = frozenset()
    making: Mapping[int, Making] = field(default_factory=dict)
    intents: tuple[int, ...] = ()
    until: int = 0
    """When its intents say that it can no longer apply."""
    settlements: tuple[Settlement, ...] = ()
    unclear: frozenset[EntityKey] = frozenset()
    """Entities of which several of its calls are, and the order of which is not sure."""
    left: tuple[Doubt, ...] = ()
    """Its calls that will be doubts when it leaves."""
    reply: Heard | None = None


class Looking(Enum):
    """Where a doubt stands."""

    OWING = auto()
    """Its outcome is known; only the log was in the way."""
    RESTING = auto()
    LISTED = auto()
    """The legacy was read; creates that may have made what was found are waited for."""
    SEEN = auto()
    SETTLING = auto()
    """The log was asked to take its outcome."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was read for a doubt, and where the log stood then."""

    looks: tuple[Look, ...]
    positions: Mapping[EntityKey, int]
    strangers: tuple[Candidate, ...] = ()
    waits: frozenset[int] = frozenset()
    """The creates under way that may have made the strangers."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call of which nobody knows what became, with the locks that it keeps."""

    intent: int
    reason: str
    keys: tuple[EntityKey, ...]
    making: Making | None = None
    owed: Settlement | None = None
    at: Looking = Looking.RESTING
    evidence: Evidence | None = None
    also: frozenset[EntityKey] = frozenset()
    """Locks of what it was found to have made."""
    wanted: tuple[Create, ...] = ()


class Turning(Enum):
    """Where a change of the stage stands."""

    NOT = auto()
    CLOSED = auto()
    """The fence is closed."""
    ASKED = auto()
    """The log was asked to take it."""


Owner = tuple[str, int]
"""Who asked the log for something: `request` and its number, `doubt` and its intent, `refused`, or `stage`."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's memory, which a crash wipes out."""

    stage: Stage
    epoch: int
    requests: Mapping[int, Request] = field(default_factory=dict)
    doubts: Mapping[int, Doubt] = field(default_factory=dict)
    refused: frozenset[int] = frozenset()
    """Requests that were refused because the log did not say whether it has their intents."""
    asked: tuple[tuple[Owner, Command], ...] = ()
    """What waits for the log's writer."""
    reports: tuple[tuple[Owner, Result], ...] = ()
    """What the writer did and nobody has heard of yet."""
    turning: Turning = Turning.NOT
    creates: int = 0

    def held(self) -> frozenset[EntityKey]:
        """Return the entities that are locked."""
        doubts = [frozenset(doubt.keys) | doubt.also for doubt in self.doubts.values()]
        return self.held_by_requests().union(*doubts)

    def held_by_requests(self) -> frozenset[EntityKey]:
        """Return those of them that no call in doubt keeps."""
        return frozenset().union(*(request.held for request in self.requests.values()))

    def makings(self, kind: str) -> frozenset[int]:
        """Return the creates of a kind that have not ended."""
        return self.under_way(kind) | _numbers(kind, (doubt.making for doubt in self.doubts.values()))

    def under_way(self, kind: str) -> frozenset[int]:
        """Return those of them that are not in doubt; what is owed to the log is not."""
        requests = self.requests.values()
        owed = [each.making for each in self.doubts.values() if each.owed and each.owed.outcome is not Outcome.IN_DOUBT]
        left = [doubt.making for request in requests for doubt in request.left]
        return _numbers(kind, (*owed, *left, *(made for request in requests for made in request.making.values())))

    def inside(self) -> list[Request]:
        """Return the requests that are inside the fence."""
        return [request for request in self.requests.values() if request.at is not At.OUTSIDE]


@dataclass(frozen=True, slots=True)
class World:
    """Everything. `proxy` is None after a crash."""

    legacy: Legacy
    database: Database
    proxy: Proxy | None
    now: int = 1_000_000_000_000
    serial: int = 0
    """Counts steps; what is made in a step is named by it."""
    sent: tuple[Sent, ...] = ()
    heard: tuple[Heard, ...] = ()
    flaws: frozenset[Flaw] = frozenset()

    @property
    def up(self) -> Proxy:
        """The proxy, which must be running."""
        assert self.proxy is not None
        return self.proxy

    def names(self) -> Iterator[str]:
        """Yield new ids, the same whenever the same step is taken in the same world."""
        return (f"e{self.serial}.{number}" for number in count())

    def of(self, request: Request) -> World:
        """Return the world with a request as it is now."""
        return self.having(requests={**self.up.requests, request.sent.number: request})

    def doubting(self, doubt: Doubt) -> World:
        """Return the world with a doubt as it is now."""
        return self.having(doubts={**self.up.doubts, doubt.intent: doubt})

    def ask(self, owner: Owner, command: Command) -> World:
        """Return the world after the log was asked for something."""
        return self.having(asked=(*self.up.asked, (owner, command)))

    def having(self, **changes: object) -> World:
        """Return the world with another memory of the proxy."""
        return replace(self, proxy=replace(self.up, **changes))  # type: ignore[arg-type]


def _numbers(kind: str, makings: Iterable[Making | None]) -> frozenset[int]:
    return frozenset(making.number for making in makings if making is not None and kind in making.kinds)


def without(mapping: Mapping[int, object], key: int) -> dict[int, object]:
    """Return a mapping without one of its keys."""
    return {name: value for name, value in mapping.items() if name != key}
