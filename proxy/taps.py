"""Taps: what the items of a legacy subscription mean, as events.

A subscription may write (an answer that is streamed makes a session and its messages), and its items tell what it
did. An item that leads to stored events is held until they are durable, like the answer to a mutation; every other
item passes at once, and its ephemeral events are shown to subscribers and kept nowhere. What a tap cannot record never
breaks the subscription: it is counted, and the reconciler finds what the log lacks.

A tap takes no lock: an item tells of what has happened already. Where it names an entity that a mutation is changing
in the same moment, the order of the two events is the order in which the proxy heard of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import structlog

from proxy.fence import Fence
from proxy.mirror import Mirror
from shadow.contract import ExpressionError, Tap
from shadow.errors import LogUnavailable
from shadow.events import Draft
from shadow.json import Json
from shadow.stages import Stage

logger = structlog.get_logger(__name__)

Append = Callable[[Sequence[Draft]], Awaitable[object]]
"""Stores events; durable on return."""


@dataclass(frozen=True, slots=True)
class Taps:
    """The taps of one contract."""

    mirror: Mirror
    fence: Fence
    append: Append
    show: Callable[[Draft], None]
    """Shows an ephemeral event to those who follow now."""

    def on(self, procedure: str) -> Tap | None:
        """Return the tap of a subscription whose phase is mirrored now; None for any other."""
        tap = self.mirror.contract.taps.get(procedure)
        return tap if tap is not None and self._is_on(tap) else None

    async def item(self, tap: Tap, given: Json, item: Json, *, actor: str | None) -> None:
        """Take in one item of a subscription that was called with the input `given`; returns when all is durable.

        Items of one subscription come here one after the other. Raises nothing that the subscription would notice.
        """
        metrics = self.mirror.metrics
        inside = await self.fence.enter((tap.phase,))
        try:
            if self._is_on(tap):
                await self._record(tap, given, item, actor)
        except ExpressionError as error:
            logger.warning("tap_not_understood", procedure=tap.procedure, key=error.key)
            metrics.not_mirrored("tap_not_understood")
        except LogUnavailable as error:
            logger.error("tap_not_recorded", procedure=tap.procedure, reason=str(error))
            metrics.not_mirrored("tap_not_recorded")
        finally:
            self.fence.leave(inside)

    async def _record(self, tap: Tap, given: Json, item: Json, actor: str | None) -> None:
        mirror, cause = self.mirror, f"tap:{tap.procedure}"
        told = tap.decide(given, item, mirror.read_state, mirror.clock(), mirror.new_id, cause=cause, actor=actor)
        for durable, together in groupby(told, key=lambda each: each.durable):
            drafts = mirror.privacy.seal_drafts(tap.procedure, given, item, [each.draft for each in together])
            if durable:
                await self.append(drafts)
            else:
                for draft in drafts:
                    self.show(draft)

    def _is_on(self, tap: Tap) -> bool:
        return self.mirror.stage_of(tap.phase)[0] is not Stage.OFF
