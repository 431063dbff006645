"""What a POST calls, and what the contract says of it, is read once for each target."""

from __future__ import annotations

import pytest

from proxy import plans
from proxy.plans import Plan, Plans
from proxy.trpc.targets import NotCalls, Refused
from shadow.contract import parse
from tests.support.mirrored import NOTES

CONTRACT = parse(NOTES, "notes.toml")


def test_the_calls_of_a_target_come_with_their_rules_and_phases() -> None:
    plan = Plans(CONTRACT).post(b"/trpc/note.edit,note.unknown", b"batch=1")
    assert isinstance(plan, Plan)
    assert plan.calls.paths == ("note.edit", "note.unknown")
    assert plan.rules == (CONTRACT.mutations["note.edit"], None)
    assert plan.phases == ("notes",)


def test_a_target_is_read_once() -> None:
    read = Plans(CONTRACT)
    assert read.post(b"/trpc/note.edit", b"") is read.post(b"/trpc/note.edit", b"")
    assert read.post(b"/trpc/note.edit", b"batch=1") is not read.post(b"/trpc/note.edit", b"")


def test_what_calls_nothing_or_could_be_read_in_two_ways_is_told_apart() -> None:
    assert isinstance(Plans(CONTRACT).post(b"/health", b""), NotCalls)
    assert isinstance(Plans(CONTRACT).post(b"/trpc/../trpc/note.edit", b""), Refused)


def test_nobody_can_fill_the_memory_with_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MOST", 2)
    read = Plans(CONTRACT)
    for number in range(5):
        read.post(b"/trpc/odd.%d" % number, b"")
    first = read.post(b"/trpc/note.edit", b"")
    assert read.post(b"/trpc/note.edit", b"") is first, "odd targets take no place"
    long = b"input=" + b"x" * 40
    assert read.post(b"/trpc/note.edit", long) is not read.post(b"/trpc/note.edit", long)


@pytest.mark.parametrize(
    ("path", "ordinary"),
    [
        (b"/trpc/note.edit", True),
        (b"/trpc/tapped", False),
        (b"/trpc/note.edit,tapped", False),
        (b"/health", True),
        (b"/trpc/note%2Eedit", False),
    ],
)
def test_a_path_is_set_apart_by_every_procedure_that_it_could_name(path: bytes, ordinary: bool) -> None:
    assert Plans(CONTRACT, lambda name: name == "tapped").ordinary(path) is ordinary


def test_what_a_path_names_is_asked_once() -> None:
    asked: list[str] = []

    def apart(name: str) -> bool:
        asked.append(name)
        return False

    read = Plans(CONTRACT, apart)
    for _ in range(3):
        read.ordinary(b"/trpc/note.edit")
    assert asked == ["note.edit"]
