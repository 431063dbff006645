"""Drafts as JSON: how they travel to the process that writes the log."""

from __future__ import annotations

from collections.abc import Mapping

from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json


def as_json(draft: Draft) -> dict[str, Json]:
    """Return a draft as JSON; `from_json` reads it."""
    return {
        "id": draft.id,
        "channel": draft.channel,
        "type": draft.type,
        "time": draft.time,
        "data": draft.data,
        "entity": draft.entity and draft.entity.entity,
        "key": draft.entity and draft.entity.key,
        "effect": draft.effect.value,
        "change": draft.change,
        "actor": draft.actor,
        "cause": draft.cause,
    }


def from_json(value: Json) -> Draft:
    """Read a draft; raises ValueError that names the first member that is wrong."""
    if not isinstance(value, dict):
        raise ValueError("an event is an object")
    entity, key = _text(value, "entity", optional=True), _text(value, "key", optional=True)
    if (entity is None) != (key is None):
        raise ValueError("`entity` and `key` come together")
    change = value.get("change")
    if change is not None and not isinstance(change, dict):
        raise ValueError("`change` is an object or null")
    return Draft(
        id=_text(value, "id") or "",
        channel=_text(value, "channel") or "",
        type=_text(value, "type") or "",
        time=_time(value),
        data=value.get("data"),
        entity=None if entity is None or key is None else EntityKey(entity, key),
        effect=_effect(value),
        change=change,
        actor=_text(value, "actor", optional=True),
        cause=_text(value, "cause", optional=True),
    )


def expected_as_json(expected: Mapping[EntityKey, int]) -> Json:
    """Return the positions at which a caller saw entities."""
    return [[entity, key, position] for (entity, key), position in expected.items()]


def expected_from_json(value: Json) -> dict[EntityKey, int]:
    """Read what `expected_as_json` wrote; raises ValueError."""
    try:
        return {EntityKey(str(entity), str(key)): int(position) for entity, key, position in value or ()}
    except (TypeError, ValueError):
        raise ValueError("`expected` is a list of [entity, key, position]") from None


def _text(value: dict[str, Json], name: str, *, optional: bool = False) -> str | None:
    found = value.get(name)
    if found is None and optional:
        return None
    if not isinstance(found, str) or not found:
        raise ValueError(f"`{name}` is a text that is not empty")
    return found


def _time(value: dict[str, Json]) -> int:
    found = value.get("time")
    if not isinstance(found, int) or isinstance(found, bool):
        raise ValueError("`time` is a whole number of milliseconds")
    return found


def _effect(value: dict[str, Json]) -> Effect:
    try:
        return Effect(value.get("effect", Effect.NONE))
    except ValueError:
        raise ValueError(f"`effect` is one of {', '.join(Effect)}") from None
