"""Taking steps in any order, and looking at the promises after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from proxy.judging import Call
from shadow import json
from shadow.batch import Append
from shadow.events import Draft, Effect, EntityKey
from shadow.json import Json
from shadow.stages import Stage
from tests.model import process, requests
from tests.model.database import Database, write
from tests.model.legacy import Legacy
from tests.model.moves import Move, Who, moves, step, tick
from tests.model.notes import NOTE, calls_of
from tests.model.promises import Promise, Violation, violations, violations_at_the_end
from tests.model.world import Flaw, Proxy, Sent, Turning, World

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]
"""Picks one of several: hypothesis does, or chance."""

FAIR_STEPS = 60
"""How many steps one call may take until its outcome is known, when everybody is back and time passes."""

IMPATIENT = ("turn_away", "lose", "give_up")
"""Steps of those who wait no longer."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: what clients do, and how often what may happen. A narrow scope is explored more deeply."""

    wishes: tuple[str, ...] = ("patch", "mark", "put", "delete", "create", "draft")
    requests: int = 5
    crashes: int = 2
    failures: int = 2
    """Transactions of the log that fail."""
    turns: int = 2
    """Changes of the stage."""


EVERYTHING = Scope()
ONE_BATCH = Scope(wishes=("patch", "put", "delete"), requests=1, crashes=0, failures=0, turns=0)
"""The calls of one request, on one note or on several."""
CREATES = Scope(wishes=("create", "draft"), requests=2, crashes=1, failures=0, turns=0)
"""Notes that were made by one create or another."""
NAMED = Scope(wishes=("put", "draft"), requests=1, crashes=0, failures=0, turns=0)
"""Notes under names that the client has chosen, and others."""
SEEN_EARLY = Scope(wishes=("create", "patch", "put"), requests=2, crashes=0, failures=3, turns=1)
"""Notes that others change before their makers have heard of them."""
RETRIES = Scope(wishes=("patch", "create"), requests=4, crashes=1, failures=2, turns=0)


class Broken(AssertionError):
    """A promise was not kept."""


class Exploration:
    """Clients, a proxy, its log and a legacy, each of which may take its next step, or fail, at any time."""

    def __init__(self, scope: Scope, flaws: frozenset[Flaw] = frozenset()) -> None:
        self.scope = scope
        self.crashes = self.turns = self.failures = 0
        self.broken = False
        self.trail: list[str] = []
        self._become(beginning(flaws))

    def ways(self) -> dict[str, int]:
        """Return what can be done now, each with how often chance should choose it."""
        scope, up = self.scope, self.world.proxy is not None
        few = up and len(self.world.sent) < scope.requests
        can = {
            "send": 2 * few,
            "send_again": 1 * (few and bool(self._keyed())),
            "go_on": 4 * up,
            "proxy": 2 * bool(self._moves[Who.PROXY]),
            "legacy": 2 * bool(self._moves[Who.LEGACY]),
            "resolver": 2 * bool(self._moves[Who.RESOLVER]),
            "log": 2 * bool(self._moves[Who.LOG]),
            "bad_log": scope.failures * (bool(self._moves[Who.BAD_LOG]) and self.failures < scope.failures),
            "operator": 1 * (bool(self._moves[Who.OPERATOR]) and self.turns < 2 * scope.turns),
            "wait": 1,
            "crash": 1 * (up and self.crashes < scope.crashes),
            "restart": 5 * (not up),
        }
        return {way: often for way, often in can.items() if often}

    def do(self, way: str, choose: Choose[Any]) -> None:
        """Do one of these; raises Broken when it breaks a promise."""
        match way:
            case "send":
                self._send(choose)
            case "send_again":
                before = choose(self._keyed())
                self._arrive(before.calls, before.key)
            case "go_on":
                self._go_on(choose(range(1, 10)), last=choose([False, True]))
            case "wait":
                for _ in range(choose(range(1, 5))):
                    self._take(Move("tick", tick))
            case "crash":
                self.crashes += 1
                self._take(Move("crash", process.crash))
            case "restart":
                self._take(Move("restart", process.restart))
            case _:
                self.failures += way == Who.BAD_LOG
                self.turns += way == Who.OPERATOR
                self._take(choose(self._moves[Who(way)]))

    def finish(self) -> None:
        """Let everybody come back and finish; raises Broken when a promise is broken then."""
        end = settle_down(self.world)
        if end is None:
            late = f"more than {FAIR_STEPS} steps for each call, and still not settled"
            self._demand(iter([Violation(Promise.UNSETTLED, late)]))
        else:
            self._demand(violations_at_the_end(end))

    def _send(self, choose: Choose[Any]) -> None:
        """A client sends something new. Whoever names a note has seen it, or has chosen its name."""
        seen = [*sorted({*self.world.legacy.notes, "a"}), "x"]
        key = choose([None, None, "k1", "k2"])
        if key is not None and any(sent.key == key for sent in self.world.sent):
            key = None
        notes = [choose(seen)]
        calls = []
        for _ in range(choose([1, 1, 2, 2, 3])):
            notes.append(choose([notes[0], choose(seen)]))
            calls.append(_asked(choose(self.scope.wishes), notes[-1], choose("op")))
        self._arrive(calls_of(calls), key)

    def _keyed(self) -> list[Sent]:
        """A client that heard nothing, or does not believe it, may send these once more."""
        return [sent for sent in self.world.sent if sent.key is not None]

    def _arrive(self, calls: tuple[Call, ...], key: str | None) -> None:
        sent = Sent(len(self.world.sent), calls, key)
        given = ", ".join(f"{call.procedure} {json.encode(call.input).decode()}" for call in calls)
        self._take(Move(f"arrive {sent.number} {key}: {given}", lambda world: requests.arrive(world, sent)))

    def _go_on(self, many: int, *, last: bool) -> None:
        """Nobody fails for a while."""
        for _ in range(many):
            if (move := urgent(self.world, last=last)) is not None:
                self._take(move)

    def _take(self, move: Move) -> None:
        self.trail.append(move.name)
        self._become(step(self.world, move))
        self._demand(violations(self.world))

    def _become(self, world: World) -> None:
        self.world = world
        self._moves = {who: moves(world, who) for who in Who}

    def _demand(self, found: Iterator[Violation]) -> None:
        first = next(found, None)
        if first is not None:
            self.broken = True
            raise Broken("\n    ".join([str(first), *self.trail]))


def walk(seed: int, steps: int, scope: Scope, flaws: frozenset[Flaw] = frozenset()) -> None:
    """Take steps by chance, the same ones for the same seed; raises Broken."""
    chance = Random(seed)
    exploration = Exploration(scope, flaws)
    for _ in range(steps):
        ways = exploration.ways()
        (way,) = chance.choices(list(ways), list(ways.values()))
        exploration.do(way, chance.choice)
    exploration.finish()


def _asked(what: str, key: str, text: str) -> tuple[str, Json]:
    match what:
        case "create":
            return "note.create", {"text": text}
        case "draft":
            return "note.draft", {}
        case "patch":
            return "note.patch", {"id": key, "change": {"text": text}}
        case "mark":
            return "note.patch", {"id": key, "change": {"mark": text}}
        case "put":
            return "note.put", {"id": key, "text": text}
    return "note.delete", {"id": key}


def settle_down(world: World) -> World | None:
    """Return the world when everybody is back and has taken every step; None if that takes too many."""
    if world.proxy is None:
        world = step(world, Move("restart", process.restart))
    for _ in range(FAIR_STEPS * (1 + sum(len(sent.calls) for sent in world.sent))):
        move = urgent(world)
        if move is None:
            return world
        world = step(world, move)
    return None


def urgent(world: World, *, last: bool = False) -> Move | None:
    """Return a step that brings the world nearer to its end if nobody fails any more; None at the end.

    Where several are as good, the `last` is taken or the first.
    """
    for ways in (_writes(world), _willing(world), moves(world, Who.RESOLVER), _answers(world)):
        if ways:
            return ways[-1 if last else 0]
    if world.up.turning is Turning.CLOSED and (ways := moves(world, Who.OPERATOR)):
        return ways[0]
    unfinished = world.up.requests or world.up.doubts or world.up.refused
    return Move("tick", tick) if unfinished else None


def _writes(world: World) -> list[Move]:
    return moves(world, Who.LOG)[:1]


def _willing(world: World) -> list[Move]:
    ways = [move for move in moves(world, Who.PROXY) if not move.name.startswith(IMPATIENT)]
    return [move for move in ways if not move.name.startswith("fail_to_send")] or ways


def _answers(world: World) -> list[Move]:
    """Return what the legacy does when it does what it is asked for, or says that it does not."""
    ways = moves(world, Who.LEGACY)
    return [move for move in ways if move.name.startswith("apply") or move.name.endswith("done")] or ways


def beginning(flaws: frozenset[Flaw] = frozenset()) -> World:
    """Return a world in which the legacy has one note, and the log knows it."""
    note: dict[str, Json] = {"text": "o"}
    key = EntityKey(NOTE.name, "a")
    draft = Draft("e", "note:a", "note-imported", 0, note, key, Effect.CREATE, note, None, "import")
    database, _ = write(Database(), [Append([draft], {})])
    return World(Legacy({"a": note}), database, Proxy(Stage.DUALWRITE, 0), flaws=flaws)
