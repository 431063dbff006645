"""The catalogue of faults that the detector is tested with: what can go wrong with a log, done on purpose. Pure.

Each fault is put into a copy of what the log says of some entities, and must change it; whether it did is checked
here without the detector's help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from reconcile.compare import Fields, Rules, covers
from shadow import json
from shadow.events import Event
from shadow.json import Json
from shadow.secrets import is_sealed
from shadow.state import fold


@dataclass(frozen=True, slots=True)
class Specimen:
    """An entity that both sides agree on: what the log says of it, and its events, oldest first."""

    key: str
    fields: Fields
    events: tuple[Event, ...]


Overlay: TypeAlias = dict[str, Fields | None]
"""What a faulty log would say instead, by key; None: it would not know the entity."""


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault as it was put into the copy; every key of the overlay must be found."""

    fault: str
    overlay: Overlay


Fault: TypeAlias = Callable[[Specimen, Rules], Overlay | None]
"""Returns what the log would say, or None when this entity does not lend itself to this fault."""


def _dropped(one: Specimen, _: Rules) -> Overlay | None:
    """Leave out the entity's last event."""
    return {one.key: _folded(one.events[:-1])} if one.events else None


def _duplicated(one: Specimen, _: Rules) -> Overlay | None:
    """Let an early event come once more, or file everything under a second key too."""
    repeated = _folded((*one.events, one.events[0])) if len(one.events) > 1 else one.fields
    return {one.key: repeated} if repeated != one.fields else {f"{one.key}~copy": dict(one.fields)}


def _reordered(one: Specimen, _: Rules) -> Overlay | None:
    """Swap two neighbouring events where the order matters."""
    events = one.events
    for first in range(len(events) - 2, -1, -1):
        swapped = (*events[:first], events[first + 1], events[first], *events[first + 2 :])
        if (after := _folded(swapped)) != one.fields:
            return {one.key: after}
    return None


def _stale(one: Specimen, _: Rules) -> Overlay | None:
    """Go back to the newest earlier state that was another one."""
    for end in range(len(one.events) - 1, 0, -1):
        before = _folded(one.events[:end])
        if before is not None and before != one.fields:
            return {one.key: before}
    return None


def _truncated(one: Specimen, rules: Rules) -> Overlay | None:
    """Cut a text in half."""
    for name, value in _visible(one, rules).items():
        if isinstance(value, str) and len(value) > 1:
            return {one.key: {**one.fields, name: value[: len(value) // 2]}}
    return None


def _mis_encoded(one: Specimen, rules: Rules) -> Overlay | None:
    """Encode a value twice, or read UTF-8 as Latin-1."""
    for name, value in _visible(one, rules).items():
        garbled = value.encode().decode("latin-1") if isinstance(value, str) else None
        twice = json.encode(value).decode()
        return {one.key: {**one.fields, name: twice if garbled is None or garbled == value else garbled}}
    return None


def _lost_batch_tail(one: Specimen, _: Rules) -> Overlay | None:
    """Lose the entity as the last one of a batch: none of its events arrived."""
    return {one.key: None}


def _wrong_key(one: Specimen, _: Rules) -> Overlay | None:
    """File the entity under another key."""
    return {one.key: None, f"{one.key}~wrong": dict(one.fields)}


def _lost_field(one: Specimen, rules: Rules) -> Overlay | None:
    """Lose one field."""
    for name in _visible(one, rules):
        return {one.key: {other: value for other, value in one.fields.items() if other != name}}
    return None


CATALOGUE: Final[Mapping[str, Fault]] = {
    "dropped": _dropped,
    "duplicated": _duplicated,
    "reordered": _reordered,
    "truncated": _truncated,
    "stale": _stale,
    "mis-encoded": _mis_encoded,
    "lost batch tail": _lost_batch_tail,
    "wrong key": _wrong_key,
    "lost field": _lost_field,
}


def plant(specimens: Sequence[Specimen], rules: Rules, comparable: Callable[[Fields], Fields]) -> list[Planted]:
    """Return one planted fault of each sort that some specimen lends itself to, on different specimens if there are.

    Faults that change nothing that is to be compared (an ignored field, a null become absent) are not planted.
    """
    planted: list[Planted] = []
    free = list(specimens)
    for name, fault in CATALOGUE.items():
        for place, one in enumerate(free):
            overlay = fault(one, rules)
            if overlay is not None and _matters(one, overlay, rules, comparable):
                planted.append(Planted(name, overlay))
                # The next fault takes another entity, as long as there are some.
                free.append(free.pop(place))
                break
    return planted


def _matters(one: Specimen, overlay: Overlay, rules: Rules, comparable: Callable[[Fields], Fields]) -> bool:
    """Tell, without the detector, whether every entry of the overlay is a change that has to be found."""
    for key, fields in overlay.items():
        if key != one.key or fields is None:
            continue  # an entity too many or too few
        before, after = comparable(one.fields), comparable(fields)
        changed = [name for name in before.keys() | after.keys() if _text(before, name) != _text(after, name)]
        if not any(_compared(name, rules) for name in changed):
            return False
    return True


def _text(fields: Fields, name: str) -> bytes:
    return json.encode(fields.get(name))


def _compared(name: str, rules: Rules) -> bool:
    ignored = (*(rule.path for rule in rules.ignored), *rules.volatile)
    return not any(covers(pattern, (name,)) or pattern.startswith(f"{name}.") for pattern in ignored)


def _visible(one: Specimen, rules: Rules) -> dict[str, Json]:
    """Return the fields of which a change has to be found."""
    return {
        name: value
        for name, value in one.fields.items()
        if value is not None and _compared(name, rules) and not is_sealed(value) and rules.mask((name,)) is None
    }


def _folded(events: Sequence[Event]) -> Fields | None:
    fields: Fields | None = None
    for event in events:
        fields = fold(fields, event.draft.effect, event.draft.change)
    return fields
