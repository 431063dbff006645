"""Holds the facts of a run against the promises: a pure function, so that it can itself be tested.

It believes the clients about what they heard, the legacy's own database about what was applied and in which order,
and nobody else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from shadow.events import EntityKey
from shadow.journal import UNSETTLED, WITH_EVENTS, Outcome
from shadow.json import Json
from tests.crash.facts import IN_THE_DATABASE, Entry, Facts, Fields, Row, Said, Told

QUARANTINED = "quarantined:"


class Promise(StrEnum):
    """The ways in which a promise can be broken."""

    LOST = "lost"
    """G1: acknowledged, and the log does not have it."""
    REPEATED = "repeated"
    """G1: in the log more often than once."""
    INVENTED = "invented"
    """G2: an event for what the legacy did not do."""
    DENIED = "denied"
    """G3: the journal says that it was not applied, and the legacy did it."""
    UNSETTLED = "unsettled"
    """G3: still in doubt, or for longer than is promised."""
    DISORDERED = "out of order"
    """G4: events on an entity in another order than that of the legacy."""
    TORN = "torn"
    """G5: handled under two stages."""
    DRIFTED = "drifted"
    """The events add up to something else than the legacy has."""
    BROKEN = "broken chain"
    LEAKED = "leaked"
    """G7: a secret in clear."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One promise that was not kept, and where."""

    promise: Promise
    what: str

    def __str__(self) -> str:
        return f"{self.promise.value}: {self.what}"


def violations(facts: Facts) -> list[Violation]:
    """Return every promise that the facts break."""
    return [
        *_completeness(facts),
        *_soundness(facts),
        *_settled(facts),
        *_order(facts),
        *_fence(facts),
        *_end(facts),
    ]


def overruns(facts: Facts) -> list[Row]:
    """Return the changes that the legacy made later than the contract says it ever does; nobody can vouch for these."""
    return [row for row in facts.rows if _is_late(row, [entry for entry in facts.entries if _may_cause(entry, row)])]


def _may_cause(entry: Entry, row: Row) -> bool:
    """Tell whether a try may have made a change: by its token, or, where that is not shown, by what it was for."""
    if entry.received > row.at:
        return False
    if row.token is not None:
        return entry.token == row.token
    return entry.procedure == row.procedure and entry.key in {None, row.key}


def _is_late(row: Row, causes: Sequence[Entry]) -> bool:
    return bool(causes) and all(row.at > entry.deadline for entry in causes)


def quarantined(facts: Facts) -> list[Entry]:
    """Return the doubts that the contract gives no way to resolve."""
    return [entry for entry in facts.entries if _is_quarantined(entry)]


def longest(facts: Facts) -> int:
    """Return how long it took at most, in milliseconds, until the outcome of a call was known."""
    return max((entry.settled - entry.received for entry in facts.entries if entry.settled is not None), default=0)


def _completeness(facts: Facts) -> Iterator[Violation]:
    entries = _by_token(facts.entries)
    events = Counter(event.intent for event in facts.told if event.intent is not None and not event.found)
    late = overruns(facts)
    tokened = Counter(row.token for row in facts.rows if row.token and row.key.entity != "message" and row not in late)
    for said in facts.said:
        applied = [entry for entry in entries[said.token] if entry.outcome is Outcome.APPLIED]
        if len(applied) > 1:
            yield Violation(Promise.REPEATED, f"{_name(said)} is applied as intents {[one.id for one in applied]}")
        if said.keyed and tokened[said.token] > 1:
            yield Violation(Promise.REPEATED, f"{_name(said)} reached the legacy {tokened[said.token]} times")
        if not said.acknowledged or not said.mirrored:
            continue
        if not applied:
            found = ", ".join(f"{entry.id} {entry.outcome.value}" for entry in entries[said.token]) or "none"
            yield Violation(Promise.LOST, f"{_name(said)} was acknowledged; its intents: {found}")
            continue
        count = events[applied[0].id]
        if count != said.events:
            promise = Promise.LOST if count < said.events else Promise.REPEATED
            yield Violation(promise, f"{_name(said)} has {count} events, not {said.events}")


def _soundness(facts: Facts) -> Iterator[Violation]:
    outcomes = {entry.id: entry for entry in facts.entries}
    for event in facts.told:
        entry = outcomes.get(event.intent) if event.intent is not None else None
        if entry is None or entry.outcome not in WITH_EVENTS:
            outcome = entry.outcome.value if entry else "unknown"
            yield Violation(Promise.INVENTED, f"{_event(event)} belongs to intent {event.intent}, which is {outcome}")
    yield from _more_than_the_legacy(facts)
    intended = {entry.token for entry in facts.entries}
    mirrored = {said.token for said in facts.said if said.mirrored}
    for row in facts.rows:
        if row.token in mirrored and row.token not in intended:
            yield Violation(Promise.LOST, f"{_row(row)} went to the legacy without an intent")


def _more_than_the_legacy(facts: Facts) -> Iterator[Violation]:
    """Count where the legacy does not show which call made a change: there may be no more events than changes.

    The settings are a file, and the legacy says in its database what it did only when the file is saved: killed in
    between, it did what no row tells of. A look at it finds that out, no answer does, and it is once for each kill.
    """
    entries = {entry.id: entry for entry in facts.entries}
    rows = Counter((row.procedure, row.key) for row in facts.rows)
    answered: Counter[tuple[str, EntityKey]] = Counter()
    looked_at: Counter[tuple[str, EntityKey]] = Counter()
    for event in facts.told:
        entry = entries.get(event.intent or 0)
        if event.key is None or entry is None or event.found or entry.procedure == "config.save":
            continue  # the last is one row for many entities
        in_a_file = event.key.entity not in IN_THE_DATABASE
        claimed = looked_at if in_a_file and entry.detail is not None else answered
        claimed[entry.procedure, event.key] += 1
    for (procedure, key), count in (answered + looked_at).items():
        unsaid = min(looked_at[procedure, key], facts.legacy_kills)
        if count > rows[procedure, key] + unsaid:
            what = f"{count} events of {procedure} on {_key(key)}, and the legacy did it {rows[procedure, key]} times"
            yield Violation(Promise.INVENTED, what)


def _settled(facts: Facts) -> Iterator[Violation]:
    allowed = facts.bound + facts.down
    for entry in facts.entries:
        if entry.outcome in UNSETTLED and not _is_quarantined(entry):
            yield Violation(Promise.UNSETTLED, f"{_entry(entry)} is still {entry.outcome.value} ({entry.detail})")
        elif entry.settled is not None and entry.settled - entry.received > allowed and not _is_quarantined(entry):
            took = entry.settled - entry.received
            yield Violation(Promise.UNSETTLED, f"{_entry(entry)} took {took} ms; {allowed} ms were promised")
    late = {row.seq for row in overruns(facts)}
    entries = _by_token(facts.entries)
    gone = {row.key for row in facts.rows if row.procedure == "session.delete"}
    for row, before in _changes(facts.rows):
        if row.token is None or row.seq in late or not row.shown or row.fields == before:
            continue
        if row.key.entity == "message" and row.fields and EntityKey("session", str(row.fields["sessionId"])) in gone:
            continue  # it went with its session, and left no trace
        outcomes = {entry.outcome for entry in entries[row.token]}
        if outcomes and outcomes <= {Outcome.REJECTED, Outcome.NOT_APPLIED}:
            said = "/".join(sorted(outcome.value for outcome in outcomes))
            yield Violation(Promise.DENIED, f"{_row(row)} is {said} by the journal, and the legacy did it")


def _order(facts: Facts) -> Iterator[Violation]:
    tokens = {entry.id: entry for entry in facts.entries}
    late = bool(overruns(facts))
    rows: defaultdict[EntityKey, list[Row]] = defaultdict(list)
    for row in facts.rows:
        rows[row.key].append(row)
    told: defaultdict[EntityKey, list[Told]] = defaultdict(list)
    for event in facts.told:
        if event.key is not None and event.intent in tokens:
            told[event.key].append(event)
    for key, events in told.items():
        if key.entity not in IN_THE_DATABASE:
            continue  # the settings are a file: the legacy does not show what was in it when
        place = 0
        for event in events:
            cause = tokens[event.intent or 0]
            fitting = [row.seq for row in rows[key] if _fits(row, event, cause)]
            if event.found:
                fitting += [0] if event.fields is None else []  # it was never there
                following = [seq for seq in fitting if seq >= place]
            else:
                following = [seq for seq in fitting if seq > place]
            if following:
                place = min(following)
            elif not fitting:
                yield Violation(Promise.INVENTED, f"{_event(event)} ({cause.token}): the legacy never did that")
            elif not late:
                what = f"{_event(event)} ({cause.token}) is change {fitting[-1]} of the legacy, and follows {place}"
                yield Violation(Promise.DISORDERED, what)


def _fits(row: Row, event: Told, entry: Entry) -> bool:
    if event.found:
        return _shows(row.fields, event.fields)
    return row.procedure == entry.procedure and row.token in {None, entry.token}


def _shows(fields: Fields | None, found: Fields | None) -> bool:
    if fields is None or found is None:
        return fields is found
    return all(fields.get(name) == value for name, value in found.items())


def _fence(facts: Facts) -> Iterator[Violation]:
    epochs: defaultdict[str, set[int]] = defaultdict(set)
    for entry in facts.entries:
        if entry.phase is not None:
            epochs[entry.token].add(entry.epoch)
    entries = {entry.id: entry for entry in facts.entries}
    answered = {said.token for said in facts.said if said.acknowledged}
    for event in facts.told:
        begun = entries.get(event.intent or 0)
        if begun is None or begun.phase is None or begun.token not in answered:
            continue
        if len(epochs[begun.token]) > 1:
            continue  # a retry may come after the change
        now = max(
            (turn.epoch for turn in facts.turns if turn.phase == begun.phase and turn.position < event.position),
            default=0,
        )
        if now != begun.epoch and begun.detail is None:
            what = f"{_event(event)}: begun at epoch {begun.epoch} of {begun.phase}, ended at epoch {now}"
            yield Violation(Promise.TORN, what)


def _end(facts: Facts) -> Iterator[Violation]:
    unsure = {entry.key for entry in quarantined(facts)} | {row.key for row in overruns(facts)}
    for key, fields in facts.legacy.items():
        state = facts.state.get(key)
        if key not in unsure and not (fields is None and state is None) and not _same(fields, state):
            yield Violation(Promise.DRIFTED, f"{_key(key)}: the legacy has {fields}, the log {state}")
    if facts.broken is not None:
        yield Violation(Promise.BROKEN, facts.broken)
    for leak in facts.leaked:
        yield Violation(Promise.LEAKED, leak)


def _same(fields: Fields | None, state: Fields | None) -> bool:
    if fields is None or state is None:
        return fields is state
    names = fields.keys() | state.keys()
    return all(_alike(fields.get(name) or None, state.get(name) or None) for name in names)


def _alike(value: Json, kept: Json) -> bool:
    """Tell whether the log has the value, or, of a secret that it saw only masked, the mask."""
    if isinstance(value, str) and isinstance(kept, str) and kept.endswith("***"):
        return value.startswith(kept.removesuffix("***"))
    return bool(value == kept)


def _changes(rows: Iterable[Row]) -> Iterator[tuple[Row, Fields | None]]:
    """Yield each row with the entity as it was before it."""
    last: dict[EntityKey, Fields | None] = {}
    for row in rows:
        yield row, last.get(row.key)
        last[row.key] = row.fields


def _by_token(entries: Iterable[Entry]) -> defaultdict[str, list[Entry]]:
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.token].append(entry)
    return found


def _is_quarantined(entry: Entry) -> bool:
    return entry.outcome in UNSETTLED and (entry.detail or "").startswith(QUARANTINED)


def _name(said: Said) -> str:
    return f"{said.procedure} {said.token}"


def _entry(entry: Entry) -> str:
    return f"intent {entry.id} ({entry.procedure} {entry.token})"


def _event(event: Told) -> str:
    return f"event {event.position} {event.type} on {_key(event.key)}"


def _row(row: Row) -> str:
    return f"change {row.seq} ({row.procedure} {row.token} on {_key(row.key)})"


def _key(key: EntityKey | None) -> str:
    return "nothing" if key is None else f"{key.entity} {key.key}"
