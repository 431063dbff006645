"""What clients do in a round, as a function of its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from shadow.faults import POINTS, Point

SETTINGS = ("provider", "rule", "agent", "selection")
"""The entities in the legacy's settings file. A round writes one of them only: the legacy itself loses writes
when two of them change at once, and that is not what is tested here."""

POINTS_OF_DOUBT = (Point.DOUBT_RIPE, Point.DOUBT_SEEN, Point.DOUBT_SETTLED)
"""The points that are reached only when a call is left in doubt."""


POINTS_OF_SPOOL = (Point.SPOOLED, Point.SPOOL_ENDED, Point.SHIPPED)
"""The points that are reached only when the log cannot be written and a phase fails open."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call: what it does, and to which of the sessions that the client knows (0 ≤ pick < 1)."""

    verb: str
    pick: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, of one call or a batch, and how its client behaves.

    `fault` is what the legacy is asked to do wrong. A client with `patience` (seconds) leaves when it is over. After
    a failure it tries again up to `tries` times in all; with `keyed`, under one idempotency key.
    """

    steps: tuple[Step, ...]
    batch: bool
    fault: str | None = None
    patience: float | None = None
    tries: int = 1
    keyed: bool = False
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class Disaster:
    """What goes wrong besides, `after` so many seconds. `kind` is one of:

    * `kill-proxy`, `kill-legacy`: kill -9;
    * `freeze-legacy`: stopped for `seconds`, then let go on;
    * `full-disk`: no file of the proxy can grow for `seconds`;
    * `flip-stage`: the phase of the round's settings is turned off, and on again after `seconds`.
    """

    kind: str
    after: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Script:
    """One round."""

    seed: int | str
    kind: str
    """One of `KINDS`, or `point`."""
    setting: str
    clients: tuple[tuple[Ask, ...], ...]
    disasters: tuple[Disaster, ...]
    points: tuple[tuple[Point, int], ...] = ()
    """Where the proxy kills itself: at the first point, once it is back at the second one, …, at which arrival."""
    fail_open: bool = False
    """Whether the sessions go on while the log cannot be written."""


KINDS: tuple[str, ...] = (
    "calm",
    "proxy-point",
    "proxy-point",
    "proxy-point",
    "proxy-random",
    "proxy-random",
    "proxy-twice",
    "legacy-random",
    "legacy-crash",
    "freeze",
    "both",
    "disk",
    "disk-point",
    "stage",
    "all",
)
"""What dies, or fails, in a round; what is named more often comes more often."""


def write_script(seed: int) -> Script:
    """Return the round of a seed: always the same one for the same list of points."""
    random = Random(seed)
    kind = random.choice(KINDS)
    fail_open = random.random() < 0.5
    setting = random.choice(SETTINGS if kind != "stage" else ("rule", "agent"))
    faults = _faults(kind)
    clients = tuple(
        tuple(_ask(random, setting, faults, stage=kind == "stage") for _ in range(random.randint(5, 9)))
        for _ in range(random.randint(3, 5))
    )
    soon = random.uniform(0.0, 0.35)
    disasters: list[Disaster] = []
    points: list[tuple[Point, int]] = []
    match kind:
        case "proxy-point" | "both":
            points = [_point(random)]
        case "proxy-twice":
            points = [_point(random), _point(random)]
        case "disk-point":
            points = [_point(random, POINTS_OF_SPOOL if fail_open else POINTS)]
            disasters = [Disaster("full-disk", 0.0, random.uniform(0.2, 0.6))]
        case "disk":
            disasters = [Disaster("full-disk", soon, random.uniform(0.05, 0.4))]
        case "freeze":
            disasters = [Disaster("freeze-legacy", soon, random.uniform(0.05, 0.3))]
        case "all":
            disasters = [
                Disaster("full-disk", soon, random.uniform(0.1, 0.5)),
                Disaster("kill-legacy", random.uniform(0.0, 0.6)),
                Disaster("kill-proxy", random.uniform(0.0, 0.6)),
            ]
        case "stage":
            disasters = [Disaster("flip-stage", random.uniform(0, 0.1), random.uniform(0.0, 0.1)) for _ in range(2)]
    if kind == "proxy-random":
        disasters = [Disaster("kill-proxy", soon)]
    if kind in {"legacy-random", "both"}:
        disasters = [Disaster("kill-legacy", soon)]
    return Script(seed, kind, setting, clients, tuple(disasters), tuple(points), fail_open)


def script_for(point: Point, arrival: int) -> Script:
    """Return a round in which the proxy is sure to come to `point`: clients that write, and calls in doubt."""
    random = Random(f"{point}{arrival}")
    faults = ("reset-after-commit", "reset-before-commit") if point in POINTS_OF_DOUBT else ()
    clients = tuple(
        tuple(_ask(random, "rule", faults, stage=False, faulty=0.4) for _ in range(4 + arrival)) for _ in range(3)
    )
    # A point that is come to while the disk is full ends that by the kill; the other one needs the disk again.
    seconds = 1.0 if point is Point.SHIPPED else 15.0
    disasters = (Disaster("full-disk", 0.0, seconds),) if point in POINTS_OF_SPOOL else ()
    return Script(f"{point}{arrival}", "point", "rule", clients, disasters, ((point, arrival),), fail_open=True)


def _point(random: Random, points: Sequence[Point] = POINTS) -> tuple[Point, int]:
    return random.choice(points), random.choice((1, 2, 3, 5, 8, 13))


def _faults(kind: str) -> tuple[str, ...]:
    either = ("reset", "error", "hang")
    faults = tuple(f"{fault}-{point}-commit" for fault in either for point in ("before", "after"))
    faults += ("truncate-after-commit", "delay-before-commit:100", "delay-after-commit:150")
    if kind != "freeze":  # both together would be longer than any request is said to take
        faults += ("delay-before-commit:300",)
    if kind == "legacy-crash":
        return ("crash-after-commit", "crash-before-commit", *faults)
    return faults


def _ask(random: Random, setting: str, faults: tuple[str, ...], *, stage: bool, faulty: float = 0.15) -> Ask:
    weights = {"create": 4, "title": 6, "model": 4, "move": 2, "rules": 1, "delete": 1, "message": 2, "first": 1}
    weights[setting] = 12 if stage else 4
    size = random.choice((1, 1, 1, 1, 2, 3))
    verbs = random.choices(tuple(weights), tuple(weights.values()), k=size)
    if setting in verbs:
        verbs = [verb for place, verb in enumerate(verbs) if verb != setting or place == verbs.index(setting)]
    fault = random.choice(faults) if faults and random.random() < faulty else None
    if fault is not None and "crash-before" in fault and setting in verbs:
        fault = None  # it would leave the changed settings file without its row in the audit table
    return Ask(
        tuple(Step(verb, random.random()) for verb in verbs),
        batch=size > 1 or random.random() < 0.2,
        fault=fault,
        patience=random.choice((None, None, None, None, 0.02, 0.2)),
        tries=random.choice((1, 2, 3)),
        keyed=random.random() < 0.5,
        pause=random.choice((0.0, 0.0, 0.01, 0.05)),
    )
