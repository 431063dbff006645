"""The legacy: it applies the calls of a request in any order, late, or never, and tells of it truly, vaguely or not.

What a call does is written here once more, apart from the program's own fold, so that the two check each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from proxy.judging import UNSUCCESSFUL, Call
from proxy.trpc.envelopes import CallOutcome, Failure, Success
from shadow.json import Json
from tests.model.notes import UNTITLED

Fields = dict[str, Json]
Place = tuple[int, int]
"""A call: the number of its request, and its index."""

MAKES: Final = frozenset({"note.create", "note.draft"})
"""Calls that make a note under a key which the legacy chooses."""


@dataclass(frozen=True, slots=True)
class Row:
    """One call that was applied: the note as it was before it and after it."""

    request: int
    call: Call
    key: str
    before: Fields | None
    after: Fields | None


class Says(StrEnum):
    """What the legacy may say of a call."""

    DONE = "done"
    BROKEN = "broken"
    """500: the call has ended, and may have been applied."""
    GATEWAY = "gateway"
    """504 from whoever stands before the legacy: the call may still run."""
    INVALID = "invalid"
    """400: it was not applied."""
    UNSUCCESSFUL = UNSUCCESSFUL
    """200, and an output that says that nothing was done."""


SUCCESSES: Final = frozenset({Says.DONE, Says.UNSUCCESSFUL})
FAILURES: Final = {
    Says.BROKEN: Failure("INTERNAL_SERVER_ERROR", 500, proven=False),
    Says.GATEWAY: Failure("GATEWAY_TIMEOUT", 504, proven=False),
    Says.INVALID: Failure("BAD_REQUEST", 400, proven=True),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a forwarded request. It may be applied before `until`, unless it has ended."""

    call: Call
    until: int
    output: Json = None
    """What it answers, once it was applied."""
    ended: bool = False
    says: CallOutcome | None = None


@dataclass(frozen=True, slots=True)
class Legacy:
    """Its notes, everything that it ever did, and what it is at."""

    notes: Mapping[str, Fields]
    rows: tuple[Row, ...] = ()
    runs: Mapping[Place, Run] = field(default_factory=dict)
    made: int = 0


def take(legacy: Legacy, request: int, calls: Iterable[Call], until: int) -> Legacy:
    """Return the legacy with a request that it has received."""
    runs = {(request, call.index): Run(call, until) for call in calls}
    return replace(legacy, runs={**legacy.runs, **runs})


def may_apply(run: Run, now: int) -> bool:
    """Tell whether a call that was not applied yet may be so now."""
    return run.output is None and not run.ended and now < run.until


def apply(legacy: Legacy, place: Place) -> Legacy:
    """Return the legacy after it has applied a call."""
    run = legacy.runs[place]
    given, makes = run.call.input, run.call.procedure in MAKES
    key = f"n{legacy.made + 1}" if makes else given["id"]
    before = legacy.notes.get(key)
    after = changed(run.call, before)
    output = {"id": key, "ok": True, "text": (after or {}).get("text")}
    notes = {name: fields for name, fields in legacy.notes.items() if name != key}
    return replace(
        legacy,
        notes=notes if after is None else {**notes, key: after},
        rows=(*legacy.rows, Row(place[0], run.call, key, before, after)),
        runs={**legacy.runs, place: replace(run, output=output)},
        made=legacy.made + makes,
    )


def changed(call: Call, before: Fields | None) -> Fields | None:
    """Return what a call makes of a note. To change what is not there changes nothing, and succeeds."""
    match call.procedure:
        case "note.create" | "note.put":
            return {"text": call.input["text"]}
        case "note.draft":
            return {"text": UNTITLED}
        case "note.patch":
            return None if before is None else before | call.input["change"]
    return None


def sayings(run: Run, now: int) -> tuple[Says, ...]:
    """Return what the legacy may say of a call now."""
    if run.says is not None:
        return ()
    if run.output is not None:
        return (Says.DONE, Says.BROKEN, Says.GATEWAY)
    unsuccessful = (Says.UNSUCCESSFUL,) if run.call.procedure == "note.create" else ()
    return (Says.BROKEN, Says.INVALID, Says.GATEWAY, *unsuccessful)


def say(legacy: Legacy, place: Place, says: Says) -> Legacy:
    """Return the legacy after something was said of a call; only a gateway's word lets it run on."""
    run = legacy.runs[place]
    output = {"ok": False} if says is Says.UNSUCCESSFUL else run.output
    outcome = Success(output) if says in SUCCESSES else FAILURES[says]
    said = replace(run, says=outcome, ended=says is not Says.GATEWAY)
    return replace(legacy, runs={**legacy.runs, place: said})


def answer(legacy: Legacy, request: int, calls: Sequence[Call]) -> tuple[CallOutcome, ...] | None:
    """Return what was said of all calls of a request; None while the answer is not whole."""
    said = [legacy.runs[request, call.index].says for call in calls]
    whole = tuple(each for each in said if each is not None)
    return whole if len(whole) == len(said) else None
