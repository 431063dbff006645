"""The comparison itself: pure, so that each of its laws can be tested.

Three things are decided here and nowhere else: whether two JSON values are the same value and where they differ
(`differences`), whether what was read from both sides may be compared at all (`decide`), and what a difference
is called (`classify`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from itertools import islice
from typing import Final, TypeAlias

from shadow import json
from shadow.json import Json
from shadow.secrets import Keyring, agrees, is_sealed

Fields: TypeAlias = dict[str, Json]
Path: TypeAlias = tuple[str | int, ...]


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "absent"


ABSENT: Final = Absent.ABSENT
"""Stands where a side has nothing at all; null is a value, this is not."""

Side: TypeAlias = Json | Absent


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the legacy and the log say different things."""

    path: Path
    legacy: Side
    log: Side

    def __str__(self) -> str:
        return f"{render(self.path)}: legacy {shown(self.legacy)}, log {shown(self.log)}"


def render(path: Path) -> str:
    """Write a path as people do: `config.models[2].name`; the empty path is the whole entity."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text or "(whole)"


def shown(side: Side, width: int = 60) -> str:
    """Write one side of a difference on one line, cut to `width` characters."""
    text = "absent" if side is ABSENT else json.encode(side).decode()
    return text if len(text) <= width else f"{text[: width - 1]}…"


HIDDEN: Final = "•••"
"""Stands where a secret stood that nothing may be told of."""


# -- rules -------------------------------------------------------------------------------------------------------


def covers(pattern: str, path: Path) -> bool:
    """Tell whether `pattern` names `path` or something that contains it.

    `config.*.apiKey` names that field of every member of `config`; `*` stands for one step, and a pattern covers
    everything below what it names. The whole entity, the empty path, is covered by `*` alone.
    """
    steps = pattern.split(".")
    if steps == ["*"]:
        return True
    if len(steps) > len(path):
        return False
    return all(wanted in {"*", str(found)} for wanted, found in zip(steps, path, strict=False))


@dataclass(frozen=True, slots=True)
class Ignore:
    """An agreement not to look at a difference: somebody answers for it, for a reason, until a day.

    `expires` is an ISO date, the last day on which the agreement holds. After it the rule no longer hides
    anything and is itself a failure, so that an agreement cannot outlive the people who made it.
    """

    entity: str
    path: str
    owner: str
    reason: str
    expires: str

    def expired(self, today: str) -> bool:
        """Tell whether `today`, an ISO date, is past the last day."""
        return today > self.expires


@dataclass(frozen=True, slots=True)
class Mask:
    """How the legacy shows a secret: its first `keep` characters, then `fill`."""

    keep: int = 0
    fill: str = "***"

    def over(self, clear: str) -> str:
        """Return what the legacy would show for the secret `clear`."""
        return clear[: self.keep] + self.fill


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as a difference for the fields of one entity. Paths are patterns as in `covers`."""

    masks: tuple[tuple[str, Mask], ...] = ()
    unordered: tuple[str, ...] = ()
    """Lists whose order carries no meaning."""
    absent_is_null: tuple[str, ...] = ()
    """Where a field that is not there and a field that is null mean the same."""
    ignored: tuple[Ignore, ...] = ()
    volatile: tuple[str, ...] = ()
    """Fields that differ between two reads of the legacy itself; learnt, listed in the report."""
    secret: tuple[str, ...] = ()
    """Fields whose values never appear in a report."""
    keyring: Keyring | None = None
    """Opens nothing, but tells whether a sealed secret is the one that the legacy shows."""

    def mask(self, path: Path) -> Mask | None:
        """Return how the legacy masks `path`, or None when it does not."""
        named = next((mask for pattern, mask in self.masks if covers(pattern, path)), None)
        if named is None and any(covers(pattern, path) for pattern in self.secret):
            return Mask(0, HIDDEN)
        return named


EXACT: Final = Rules()


# -- the diff ----------------------------------------------------------------------------------------------------


def same(left: Json, right: Json) -> bool:
    """Tell whether two JSON values are one: 1 is 1.0, but true is not 1 and null is not absent."""
    return not differences(left, right, limit=1)


def differences(legacy: Side, log: Side, rules: Rules = EXACT, *, limit: int = 100) -> tuple[Difference, ...]:
    """Return the first `limit` differences, in a stable order (names sorted, indices ascending).

    Ignored and volatile fields are reported like any other: leaving them out is for `Comparison`, which also
    says that it did.
    """
    # Equal bytes settle nearly all comparisons for the price of two encodings.
    if legacy is not ABSENT and log is not ABSENT and json.encode(legacy) == json.encode(log):
        return ()
    found = (one for one in _walk((), legacy, log, rules) if isinstance(one, Difference))
    return tuple(islice(found, limit))


@dataclass(frozen=True, slots=True)
class Untold:
    """A sealed secret that cannot be compared: the key is missing."""

    path: Path


def _walk(path: Path, legacy: Side, log: Side, rules: Rules) -> Iterator[Difference | Untold]:
    if is_sealed(log) and legacy is not ABSENT and legacy is not None:
        agreed = agrees(log, legacy, rules.keyring)
        if agreed is None:
            yield Untold(path)
        elif not agreed:
            yield Difference(path, legacy, log)
    elif isinstance(legacy, dict) and isinstance(log, dict):
        for name in sorted(legacy.keys() | log.keys()):
            yield from _walk((*path, name), legacy.get(name, ABSENT), log.get(name, ABSENT), rules)
    elif isinstance(legacy, list) and isinstance(log, list):
        yield from _walk_lists(path, legacy, log, rules)
    elif not _one_value(path, legacy, log, rules):
        yield Difference(path, legacy, log)


def _walk_lists(path: Path, legacy: list[Json], log: list[Json], rules: Rules) -> Iterator[Difference | Untold]:
    if any(covers(pattern, path) for pattern in rules.unordered):
        legacy, log = sorted(legacy, key=_sort_key), sorted(log, key=_sort_key)
    for index in range(max(len(legacy), len(log))):
        ours = legacy[index] if index < len(legacy) else ABSENT
        theirs = log[index] if index < len(log) else ABSENT
        yield from _walk((*path, index), ours, theirs, rules)


def _one_value(path: Path, legacy: Side, log: Side, rules: Rules) -> bool:
    if legacy is ABSENT or log is ABSENT:
        other = log if legacy is ABSENT else legacy
        return other is ABSENT or (other is None and any(covers(pattern, path) for pattern in rules.absent_is_null))
    # bool is an int to Python; to JSON it is not.
    if isinstance(legacy, bool) or isinstance(log, bool):
        return legacy is log
    if legacy == log:
        return True
    mask = rules.mask(path)
    if mask is None or not isinstance(legacy, str) or not isinstance(log, str):
        return False
    # Some legacies mask only sometimes, and an import may have seen no more than the mask.
    return legacy in {log, mask.over(log)} or log == mask.over(legacy)


def _sort_key(value: Json) -> bytes:
    return json.encode(_canonical(value))


def _canonical(value: Json) -> Json:
    """Give equal values one form: JavaScript has one kind of number, Python two."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return value


MOST: Final = 100
"""How many differences of one entity are kept."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of one entity, told apart by whether anybody agreed not to look."""

    differences: tuple[Difference, ...]
    ignored: tuple[tuple[Difference, Ignore], ...] = ()
    volatile: tuple[Difference, ...] = ()
    untold: int = 0
    """Secrets that could not be compared for want of the key."""


def compare(entity: str, legacy: Fields | None, log: Fields | None, rules: Rules, today: str) -> Comparison:
    """Compare what both sides say of one entity; None is an entity that is not there."""
    kept: list[Difference] = []
    ignored: list[tuple[Difference, Ignore]] = []
    volatile: list[Difference] = []
    agreements = [rule for rule in rules.ignored if rule.entity in {entity, "*"} and not rule.expired(today)]
    untold = 0
    for found in _found(legacy, log, rules):
        if isinstance(found, Untold):
            untold += 1
            continue
        agreed = next((rule for rule in agreements if covers(rule.path, found.path)), None)
        if agreed is not None:
            ignored.append((found, agreed))
        elif found.path and any(covers(pattern, found.path) for pattern in rules.volatile):
            volatile.append(found)
        elif len(kept) < MOST:
            kept.append(found)
    return Comparison(tuple(kept), tuple(ignored), tuple(volatile), untold)


def _found(legacy: Fields | None, log: Fields | None, rules: Rules) -> Iterable[Difference | Untold]:
    if legacy is not None and log is not None and json.encode(legacy) == json.encode(log):
        return ()
    return _walk((), ABSENT if legacy is None else legacy, ABSENT if log is None else log, rules)


def redacted(difference: Difference, rules: Rules) -> Difference:
    """Return the difference as it may be told: every secret in it replaced by its mask or by `HIDDEN`."""
    path = difference.path
    return Difference(path, _redact(path, difference.legacy, rules), _redact(path, difference.log, rules))


def _redact(path: Path, value: Side, rules: Rules) -> Side:
    if value is ABSENT or value is None:
        return value
    if path and any(covers(pattern, path) for pattern in rules.secret):
        return HIDDEN
    if is_sealed(value):
        return value["mask"]
    if isinstance(value, dict):
        return {name: _redact((*path, name), item, rules) for name, item in value.items()}
    if isinstance(value, list):
        return [_redact((*path, index), item, rules) for index, item in enumerate(value)]
    return value


def kept(fields: Fields, rules: Rules) -> Fields:
    """Return fields that the legacy showed as the log may keep them: a secret in clear becomes its mask."""
    return {name: _mask((name,), value, rules) for name, value in fields.items()}


def _mask(path: Path, value: Json, rules: Rules) -> Json:
    if isinstance(value, dict):
        return {name: _mask((*path, name), item, rules) for name, item in value.items()}
    if isinstance(value, list):
        return [_mask((*path, index), item, rules) for index, item in enumerate(value)]
    mask = rules.mask(path)
    if value is None or mask is None:
        return value
    already = isinstance(value, str) and value.endswith(mask.fill)
    return value if already else mask.over(value if isinstance(value, str) else "")


# -- may these two be compared? ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mark:
    """What the log knew of one key at one moment.

    `position` is that of the key's last event, 0 when it never had one. `open_intents` are those not settled yet
    that name the key.
    """

    position: int
    open_intents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that `decide` looks at: the marks around the read of the legacy, what was read, and the attempt."""

    before: Mark
    after: Mark
    equal: bool
    attempt: int
    """Counted from 1."""
    attempts: int
    """How many are allowed."""
    came_and_went: tuple[int, ...] = ()
    """Intents that name the key and were begun between the marks."""
    keyless: tuple[int, ...] = ()
    """Intents open at either mark that do not say which keys they touch, and still did not when asked again."""
    turned_out: tuple[int, ...] = ()
    """Intents of that sort that did touch this key in the end."""
    doubtful: tuple[int, ...] = ()
    """Which of all these are in doubt: only the doubt resolver can end them."""
    failure: str | None = None
    """Why the legacy could not be read, when it could not."""


@dataclass(frozen=True, slots=True)
class Match:
    """Both sides are equal, exactly at `position`."""

    position: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Both sides differ, exactly at `position`."""

    position: int


@dataclass(frozen=True, slots=True)
class Retry:
    """Something moved while looking; look again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unverified:
    """Nothing can be said: lowers the coverage and accuses nobody."""

    reason: str
    in_doubt: bool = False


Verdict: TypeAlias = Match | Mismatch | Retry | Unverified


def decide(facts: Facts) -> Verdict:
    """Say what a pair of reads proves.

    The state was read together with the `after` mark. If no event, and no intent that could have become one, came
    between the two marks, then the legacy was read at exactly that position and the comparison is exact. A write in
    flight at either moment makes the legacy newer than the log through nobody's fault, so then nothing is said.
    """
    obstacle = _obstacle(facts)
    if obstacle is None:
        return Match(facts.after.position) if facts.equal else Mismatch(facts.after.position)
    if facts.attempt < facts.attempts:
        return Retry(obstacle)
    return Unverified(obstacle, in_doubt=bool(facts.doubtful) and facts.failure is None)


def _obstacle(facts: Facts) -> str | None:
    before, after = facts.before, facts.after
    if facts.failure is not None:
        return facts.failure
    if before.position != after.position:
        return f"an event of position {after.position} arrived while the legacy was read"
    if named := (*before.open_intents, *after.open_intents):
        return f"intent {named[0]} was open"
    if facts.came_and_went:
        return f"intent {facts.came_and_went[0]} came and went while the legacy was read"
    # A call whose keys are not known cannot make two different states equal by mistake of ours, but it can explain
    # a difference.
    if not facts.equal and (unknown := (*facts.keyless, *facts.turned_out)):
        return f"intent {unknown[0]} was open and might have been about this key"
    return None


# -- what a difference is called ---------------------------------------------------------------------------------


class Kind(StrEnum):
    """The classes of findings, worst first."""

    MISSING_IN_LOG = "missing_in_log"
    """The legacy has the entity, the log does not."""
    EXTRA_IN_LOG = "extra_in_log"
    """The log has the entity, the legacy does not."""
    VALUE_DIFFERS = "value_differs"
    """Both have it, with different fields; some intent or event did carry what the legacy holds."""
    BYPASS_WRITE = "bypass_write"
    """The legacy holds what no intent ever carried: somebody wrote without going through the proxy."""
    ORDER_AMBIGUOUS = "order_ambiguous"
    """Two calls of one batch wrote the same entity; which came last is not known."""
    EXPIRED_IGNORE = "expired_ignore"
    """An ignore rule is past its last day."""
    IN_DOUBT = "in_doubt"
    """An intent on the key is in doubt; the doubt resolver has to end it first."""
    UNVERIFIED = "unverified"
    """No exact comparison succeeded."""


DRIFT: Final = frozenset(
    {
        Kind.MISSING_IN_LOG,
        Kind.EXTRA_IN_LOG,
        Kind.VALUE_DIFFERS,
        Kind.BYPASS_WRITE,
        Kind.ORDER_AMBIGUOUS,
        Kind.EXPIRED_IGNORE,
    }
)
"""The kinds that are failures; the others only leave a question open."""

SEVERITY: Final = {kind: rank for rank, kind in enumerate(Kind)}


@dataclass(frozen=True, slots=True)
class Trace:
    """What the log and the journal ever said about one key; the ground on which a difference is classified."""

    carried: tuple[Json, ...] = ()
    """Inputs of the key's intents, whatever became of them, and changes of its events."""
    intents: int = 0
    """How many intents ever named the key."""
    events: int = 0
    ambiguous: bool = False
    """The newest two calls on the key came in one batch, whose members a server runs at the same time."""
    imported: bool = False
    """The entity's whole list was imported once, so that an unknown key cannot be from before."""
    unmapped: bool = False
    """A call that the contract has no rule for named the key."""


def classify(found: Sequence[Difference], trace: Trace, rules: Rules = EXACT) -> Kind:
    """Name the class of the differences of one key."""
    explained = any(_carries(value, difference, rules) for difference in found for value in trace.carried)
    whole = next((difference for difference in found if not difference.path), None)
    if trace.ambiguous and (explained or whole is not None):
        return Kind.ORDER_AMBIGUOUS
    if whole is not None and whole.log is ABSENT:
        bypassed = trace.imported and not (trace.intents or trace.events or trace.unmapped)
        return Kind.BYPASS_WRITE if bypassed else Kind.MISSING_IN_LOG
    if whole is not None:
        return Kind.EXTRA_IN_LOG
    return Kind.VALUE_DIFFERS if explained or trace.unmapped else Kind.BYPASS_WRITE


def _carries(value: Json, difference: Difference, rules: Rules) -> bool:
    """Tell whether `value` holds, anywhere, what the legacy holds at the difference."""
    if difference.legacy is ABSENT:
        # Somebody must have removed it: an input that removes names the field's owner, never the value.
        return False
    return any(not differences(difference.legacy, part, rules, limit=1) for part in parts(value))


def parts(value: Json) -> Iterator[Json]:
    """Yield a value and everything in it; a sealed secret is one thing."""
    yield value
    if is_sealed(value):
        return
    if isinstance(value, dict):
        for item in value.values():
            yield from parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should look at, with all that is known about it.

    `position` is the position of the log at which the comparison was exact, None when none was.
    `events` and `intents` are the entity's recent ones, newest first, one line each.
    """

    kind: Kind
    entity: str
    key: str
    position: int | None
    message: str
    differences: tuple[Difference, ...] = ()
    events: tuple[str, ...] = ()
    intents: tuple[str, ...] = ()
    first_divergence: int | None = None
    """The position of the first event after which the sides differ, where the history says so."""
    details: dict[str, Json] = field(default_factory=dict)

    @property
    def drift(self) -> bool:
        """Whether this is a failure, and not only an open question."""
        return self.kind in DRIFT

    @property
    def worst_first(self) -> tuple[int, str, str]:
        """A sort key."""
        return SEVERITY[self.kind], self.entity, self.key
