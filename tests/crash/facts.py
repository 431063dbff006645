"""What a run leaves behind, from four witnesses: the clients, the legacy's own database, the journal and the log.

Every call carries a *token*, a text that no other call carries: as a field of its input that the legacy ignores, and,
where it writes text, as the text that it writes. So each witness can be asked about the same call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shadow.events import EntityKey
from shadow.journal import Outcome
from shadow.json import Json

Fields = dict[str, Json]

IN_THE_DATABASE = frozenset({"session", "message"})
"""The entities that the legacy keeps in its database; all others are in its settings file."""


@dataclass(frozen=True, slots=True)
class Said:
    """One call as its client saw it; a call that was tried again under one idempotency key is one call."""

    token: str
    procedure: str
    acknowledged: bool
    """The client heard that it succeeded."""
    events: int
    """How many events it leads to if it is applied."""
    keyed: bool = False
    """It was sent with an idempotency key, so it may be applied once at most."""
    sent: int = 0
    heard: int = 0
    """When the client began and ended its last try, in milliseconds."""
    mirrored: bool = True
    """Its phase was mirrored from before the first try until after the last one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One change that the legacy committed: a row of its audit table, with the entity as it was after it.

    `fields` is None where the entity is not there, and `shown` is False where the database does not hold it.
    """

    seq: int
    procedure: str
    key: EntityKey
    at: int
    fields: Fields | None = None
    shown: bool = True

    @property
    def token(self) -> str | None:
        """The token of the call that made this change, where the change shows it."""
        if self.fields is None or not self.shown:
            return None
        match self.procedure:
            case "session.create" | "session.updateModel" | "session.updateProvider":
                return str(self.fields["model"])
            case "session.updateTitle":
                return str(self.fields["title"])
            case "session.updateRules":
                rules = self.fields["enabledRuleIds"]
                return str(rules[0]) if isinstance(rules, list) and rules else None
            case "message.add":
                return str(self.fields["model" if self.key.entity == "session" else "content"])
        return None


@dataclass(frozen=True, slots=True)
class Entry:
    """One intent of the journal."""

    id: int
    token: str
    procedure: str
    phase: str | None
    epoch: int
    outcome: Outcome
    received: int
    deadline: int
    settled: int | None
    key: EntityKey | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """One event of the log; `intent` is the one that led to it, `found` that it records what a look found."""

    position: int
    type: str
    key: EntityKey | None
    intent: int | None
    found: bool = False
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A stage change: from `position` on the phase stands at `epoch`."""

    position: int
    phase: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the checker looks at. Rows, entries and events are in their own order."""

    said: tuple[Said, ...] = ()
    rows: tuple[Row, ...] = ()
    entries: tuple[Entry, ...] = ()
    told: tuple[Told, ...] = ()
    turns: tuple[Turn, ...] = ()
    legacy: Mapping[EntityKey, Fields | None] = field(default_factory=dict)
    """The legacy's last word on entities, with the contract's fields only."""
    state: Mapping[EntityKey, Fields | None] = field(default_factory=dict)
    """What the events add up to; an entity that is not named here was never told of."""
    broken: str | None = None
    """Where the log's chain breaks."""
    leaked: tuple[str, ...] = ()
    """Secrets that were found in clear, with the file."""
    legacy_kills: int = 0
    """How often the legacy was killed."""
    down: int = 0
    """For how many milliseconds at most the proxy or the legacy was away while something was in doubt."""
    bound: int = 0
    """For how many milliseconds a doubt may last while both are there."""
