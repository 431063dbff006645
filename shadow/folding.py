"""When the table of states is brought up to date: behind the events, a slice of keys at a time.

A state is what the events of its entity add up to, so nothing is lost when the table lags: whoever reads adds the
newest events to what it finds. Lagging is what makes writing cheap. Every state that is written dirties a page of its
own somewhere in a large table, while events go one behind the other; written in the order of their keys, and once for
all the changes of some thousand events, states share their pages.

A *sweep* begins when the table lags far enough. Each transaction from then on takes one slice of it along, so that no
mutation waits for all of them, and with the last slice the table is complete up to where the sweep began. A log at rest
is swept too, so that whoever reads it has nothing to fold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from shadow.events import EntityKey

LAG: Final = 8192
"""How many events the table lags behind before a sweep begins. Readers and a restart fold about twice as many."""

SLICE: Final = 128
"""How many states a transaction takes along."""


class Slice(NamedTuple):
    """What one transaction writes of the states: these keys; the table is then complete up to position `folded`."""

    keys: Sequence[EntityKey]
    folded: int


class Folding:
    """Plans the sweeps over one log; `folded` is the position up to which the table holds every state."""

    def __init__(self, folded: int, *, lag: int = LAG, size: int = SLICE) -> None:
        self.folded = folded
        self._lag = lag
        self._size = size
        self._until = folded
        self._left: list[EntityKey] = []

    @property
    def sweeping(self) -> bool:
        """Tell whether a sweep is under way."""
        return bool(self._left)

    def plan(self, head: int, unwritten: Iterable[EntityKey], *, at_rest: bool = False) -> Slice:
        """Return what the next transaction takes along; `unwritten` are the states up to `head` that the table lacks.

        `at_rest` tells that there is nothing else to do: then a sweep begins however little the table lags. Planning
        again without `written` in between gives the same slice: a transaction may fail.
        """
        if not self._left:
            if head - self.folded < (1 if at_rest else self._lag):
                return Slice((), self.folded)
            self._left = sorted(unwritten, reverse=True)
            self._until = head
        last = len(self._left) <= self._size
        return Slice(self._left[-self._size :], self._until if last else self.folded)

    def written(self, written: Slice) -> None:
        """Take note of a slice that is committed."""
        del self._left[len(self._left) - len(written.keys) :]
        self.folded = written.folded
