"""Events and intents for tests that care about a few of their fields only."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shadow.events import Draft, Effect, EntityKey
from shadow.journal import NewIntent

SESSION = EntityKey("session", "s1")


def draft(
    id: str, entity: EntityKey | None = SESSION, effect: Effect = Effect.PUT, *, time: int = 1, **change: Any
) -> Draft:
    """Return an event on a channel of its entity that changes the fields given."""
    channel = f"{entity.entity}:{entity.key}" if entity else "app:note"
    gone = effect in {Effect.DELETE, Effect.NONE}
    return Draft(id, channel, "changed", time, {"is": change}, entity, effect, None if gone else change)


def intent(entity: EntityKey | None = SESSION, **other: Any) -> NewIntent:
    """Return an intent received at 10 whose call can apply until 20."""
    plain = NewIntent(
        request="r1",
        index=0,
        procedure="session.rename",
        phase="sessions",
        stage_epoch=1,
        entity_key=entity,
        input={"title": "a"},
        actor="user:1",
        received=10,
        deadline=20,
    )
    return replace(plain, **other)
