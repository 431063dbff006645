"""Which steps can be taken in a world, by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from tests.model import legacy, process, requests, resolver
from tests.model.process import Fate
from tests.model.world import TICK, At, Doubt, Looking, Request, Turning, World


class Who(StrEnum):
    """Who takes a step."""

    PROXY = "proxy"
    LEGACY = "legacy"
    LOG = "log"
    BAD_LOG = "bad_log"
    """The log's database, failing."""
    RESOLVER = "resolver"
    OPERATOR = "operator"
    """Changes the stage."""


class Move(NamedTuple):
    """One step that can be taken; its name is what a counterexample shows."""

    name: str
    take: Callable[[World], World]

    def __repr__(self) -> str:
        return self.name


def step(world: World, move: Move) -> World:
    """Return the world after a step."""
    return replace(move.take(world), serial=world.serial + 1)


def moves(world: World, who: Who) -> list[Move]:
    """Return the steps that somebody can take."""
    if who is Who.LEGACY:
        return list(_of_legacy(world))
    return [] if world.proxy is None else list(_OF_PROXY[who](world))


def tick(world: World) -> World:
    """Time passes."""
    return replace(world, now=world.now + TICK)


def _of_legacy(world: World) -> Iterator[Move]:
    for place, run in world.legacy.runs.items():
        if legacy.may_apply(run, world.now):
            yield Move(f"apply {place}", partial(_in_legacy, change=partial(legacy.apply, place=place)))
        for says in legacy.sayings(run, world.now):
            yield Move(f"say {place} {says}", partial(_in_legacy, change=partial(legacy.say, place=place, says=says)))


def _in_legacy(world: World, change: Callable[[legacy.Legacy], legacy.Legacy]) -> World:
    return replace(world, legacy=change(world.legacy))


def _of_requests(world: World) -> Iterator[Move]:
    for request in world.up.requests.values():
        for take in _ways(world, request):
            yield _move(take, request.sent.number, request)
    for number in sorted(world.up.refused):
        yield _move(requests.disown, number, number)


def _ways(world: World, request: Request) -> Iterator[Callable[[World, Request], World]]:
    """Yield what a request can do next."""
    if requests.may_forward(world, request):
        yield requests.forward
    match request.at:
        case At.OUTSIDE if world.up.turning is Turning.NOT:
            yield requests.enter
        case At.WAITING:
            if requests.may_lock(world, request):
                yield requests.lock
            yield requests.turn_away
        case At.RECALLING:
            yield requests.recall if requests.is_remembered(world, request) else requests.turn_away
        case At.INTENDED:
            yield requests.fail_to_send
        case At.FORWARDED:
            if requests.is_answered(world, request):
                yield requests.read
            yield requests.lose
        case At.ANSWERED:
            yield requests.look_at_order
        case At.REFUSED:
            yield requests.insist
            yield requests.give_up
        case At.SETTLED:
            yield requests.observe
        case At.TELLING:
            yield requests.tell


def _of_log(world: World) -> Iterator[Move]:
    if world.up.reports:
        yield Move("deliver", process.deliver)
    yield from _commits(world, Fate.WRITTEN)


def _of_bad_log(world: World) -> Iterator[Move]:
    for fate in (Fate.REFUSED, Fate.UNHEARD, Fate.LOST):
        yield from _commits(world, fate)


def _commits(world: World, fate: Fate) -> Iterator[Move]:
    for count in range(len(world.up.asked), 0, -1):
        yield Move(f"commit {count} {fate.name}", partial(process.commit, count=count, fate=fate))


def _of_resolver(world: World) -> Iterator[Move]:
    for doubt in world.up.doubts.values():
        for take in _looks(world, doubt):
            yield _move(take, doubt.intent, doubt)


def _looks(world: World, doubt: Doubt) -> Iterator[Callable[[World, Doubt], World]]:
    """Yield what can be done about a doubt."""
    if doubt.at is Looking.OWING:
        yield resolver.owe
    if resolver.may_look(world, doubt):
        yield resolver.look
    if resolver.may_sift(world, doubt):
        yield resolver.sift
    if resolver.may_conclude(world, doubt):
        yield resolver.conclude


def _of_operator(world: World) -> Iterator[Move]:
    if world.up.turning is Turning.NOT:
        yield Move("close_fence", process.close_fence)
    if process.may_turn(world):
        yield Move("turn", process.turn)


def _move(take: Callable[[World, Any], World], number: int, whose: object) -> Move:
    return Move(f"{take.__name__} {number}", lambda world: take(world, whose))


_OF_PROXY: dict[Who, Callable[[World], Iterator[Move]]] = {
    Who.PROXY: _of_requests,
    Who.LOG: _of_log,
    Who.BAD_LOG: _of_bad_log,
    Who.RESOLVER: _of_resolver,
    Who.OPERATOR: _of_operator,
}
