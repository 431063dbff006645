"""What the log's history says about a difference. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconcile.compare import Fields, Rules, differences
from reconcile.evidence import PastIntent
from shadow.events import Event
from shadow.state import fold


def first_divergence(
    legacy: Fields | None, events: Sequence[Event], rules: Rules, comparable: Callable[[Fields], Fields] = dict
) -> int | None:
    """Return the position of the first event after which the log no longer said what the legacy says.

    `events` are all events of the entity, oldest first. None when the log never said it: then no event is to
    blame, and the legacy was changed in some other way.
    """
    fields: Fields | None = None
    agreed = legacy is None
    parted: int | None = None
    for event in events:
        fields = fold(fields, event.draft.effect, event.draft.change)
        shown = None if fields is None else comparable(fields)
        equal = shown is legacy if shown is None or legacy is None else not differences(legacy, shown, rules, limit=1)
        if equal:
            agreed, parted = True, None
        elif agreed and parted is None:
            parted = event.position
    return parted


def event_line(event: Event) -> str:
    """Tell an event on one line, without its data: that may be secret, and the log can be asked for it."""
    cause = f" ({event.draft.cause})" if event.draft.cause else ""
    return f"event @{event.position} {event.draft.type}{cause}"


def intent_line(intent: PastIntent) -> str:
    """Tell an intent on one line, without its input."""
    detail = f" ({intent.detail})" if intent.detail else ""
    return f"intent {intent.id} {intent.procedure}: {intent.outcome}{detail}"
