"""Several rounds, ours and theirs by turns, so that a busy moment of the machine falls on both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

Measured = TypeVar("Measured")


async def alternating(
    rounds: int, ours: Callable[[], Awaitable[Measured]], theirs: Callable[[], Awaitable[Measured]]
) -> tuple[list[Measured], list[Measured]]:
    """Measure both in each round, the other one first in every second round."""
    our_figures: list[Measured] = []
    their_figures: list[Measured] = []
    for number in range(rounds):
        for mine in (True, False) if number % 2 else (False, True):
            if mine:
                our_figures.append(await ours())
            else:
                their_figures.append(await theirs())
    return our_figures, their_figures
