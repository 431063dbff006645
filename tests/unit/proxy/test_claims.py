"""What a request holds of its entities: taken whole, handed on by parts, and free again at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from proxy.claims import Claims, EntityBusy, Ground
from proxy.creations import Creations
from proxy.judging import Call
from proxy.observation import Overlaps
from shadow.contract import parse
from shadow.events import EntityKey
from shadow.locks import EntityLocks
from tests.support.mirrored import NOTES

CONTRACT = parse(NOTES, "notes.toml")
A, B = EntityKey("note", "a"), EntityKey("note", "b")


def ground(*, strict: Callable[[str], bool] = lambda entity: True, overlaps: Overlaps | None = None) -> Ground:
    return Ground(EntityLocks(), Creations(), overlaps, strict, lambda key: None, lambda entity: (), 0.05)


def edits(*ids: str) -> list[Call]:
    rule = CONTRACT.mutations["note.edit"]
    return [Call(index, rule.procedure, {"id": id, "text": "t"}, rule) for index, id in enumerate(ids)]


def upload() -> Call:
    return Call(0, "note.upload", {"contentType": "text/plain", "size": 1}, CONTRACT.mutations["note.upload"])


def test_a_request_takes_all_its_entities_or_none() -> None:
    common = ground()
    first, second = Claims(common, edits("b"), 0), Claims(common, edits("a", "b"), 0)
    assert first.take_free()
    assert not second.take_free()
    assert not common.locks.held(A)
    first.release()
    assert second.take_free()
    assert common.locks.held(A)
    assert common.locks.held(B)


async def test_who_waits_too_long_is_told_so_and_holds_nothing() -> None:
    common = ground()
    assert Claims(common, edits("b"), 0).take_free()
    with pytest.raises(EntityBusy):
        await Claims(common, edits("a", "b"), 0).wait()
    assert not common.locks.held(A)


async def test_a_call_on_an_entity_that_the_log_does_not_know_waits_for_creates_of_its_kind() -> None:
    common = ground()
    making, editing = Claims(common, [upload()], 0), Claims(common, edits("a"), 0)
    assert making.take_free()
    assert not editing.take_free()
    waiting = asyncio.get_running_loop().create_task(editing.wait())
    await asyncio.sleep(0)
    making.release()
    await waiting
    assert common.locks.held(A)


def test_what_is_left_behind_is_somebody_elses_to_free() -> None:
    common = ground()
    claims = Claims(common, edits("a", "b"), 0)
    assert claims.take_free()
    keys, creation = claims.of(1)
    claims.hand_over(keys)
    claims.release()
    assert (keys, creation) == ((B,), None)
    assert common.locks.held(B)
    assert not common.locks.held(A)


def test_what_only_settled_calls_held_is_freed_before_the_end() -> None:
    common = ground()
    claims = Claims(common, edits("a", "b"), 0)
    assert claims.take_free()
    claims.release_settled([1], [])
    assert not common.locks.held(A)
    assert common.locks.held(B)
    claims.release_settled([], [B])
    assert common.locks.held(B), "somebody has still to look at it"


def test_where_nobody_waits_it_is_noted_who_overlapped() -> None:
    overlaps = Overlaps()
    common = ground(strict=lambda entity: False, overlaps=overlaps)
    first, second = Claims(common, edits("a"), 0), Claims(common, edits("a"), 0)
    assert first.take_free()
    assert second.take_free()
    assert first.quiet() == ()
    assert second.quiet() == (A,)


def test_entities_that_several_calls_are_about_are_named_with_the_calls() -> None:
    assert Claims(ground(), edits("a", "b", "a"), 0).shared() == {A: [0, 2]}
    assert Claims(ground(), edits("a"), 0).shared() == {}
