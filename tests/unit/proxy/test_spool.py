"""The spool: what was confirmed is there after any crash, in order, and nothing else is."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.spool import Spool, SpoolBroken, SpoolFull


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "log.db.spool"


def reopened(path: Path) -> Spool:
    return Spool(path)


def test_there_is_no_file_while_nothing_is_spooled(path: Path) -> None:
    assert len(Spool(path)) == 0
    assert not path.exists()


def test_what_was_confirmed_is_there_after_a_restart(path: Path) -> None:
    spool = Spool(path)
    first, second = spool.tried([{"p": "a"}, {"p": "b"}])
    spool.ended([(second, {"outcome": "success"}), (first, {"outcome": "rejected"})])
    (third,) = spool.tried([{"p": "c"}])
    name = spool.name
    spool.close()
    again = reopened(path)

    assert again.name == name
    assert [(each.number, each.tried["p"], each.ended) for each in again.waiting()] == [
        (second, "b", {"outcome": "success"}),
        (first, "a", {"outcome": "rejected"}),
        (third, "c", None),
    ]


def test_the_file_goes_with_the_last_call_that_reaches_the_log(path: Path) -> None:
    spool = Spool(path)
    numbers = spool.tried([{"p": "a"}, {"p": "b"}])
    spool.shipped(numbers[0])
    assert [each.number for each in reopened(path).waiting()] == [numbers[1]]
    name = spool.name
    spool.shipped(numbers[1])
    assert not path.exists()
    (number,) = spool.tried([{"p": "c"}])

    assert number not in numbers
    assert spool.name != name
    assert [each.number for each in reopened(path).waiting()] == [number]


def test_numbers_are_never_used_twice_in_one_file(path: Path) -> None:
    spool = Spool(path)
    one, two = spool.tried([{}, {}])
    spool.shipped(two)
    spool.close()

    assert reopened(path).tried([{}]) == [two + 1] != [one]


@given(st.data())
def test_a_file_cut_off_anywhere_yields_a_beginning_of_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("spool") / "torn"
    spool = Spool(path)
    for number in range(4):
        spool.tried([{"n": number}])
    spool.close()
    text = path.read_bytes()
    ends = [place for place, byte in enumerate(text) if byte == ord("\n")]
    cut = data.draw(st.integers(0, len(text)))
    path.write_bytes(text[:cut])
    found = [each.tried["n"] for each in reopened(path).waiting()]

    assert found == list(range(max(0, sum(1 for end in ends if end < cut) - 1)))


def test_after_a_torn_line_writing_goes_on_at_its_place(path: Path) -> None:
    spool = Spool(path)
    spool.tried([{"n": 1}])
    spool.close()
    with path.open("ab") as file:
        file.write(b'0123abcd {"kind":"tri')
    again = reopened(path)
    again.tried([{"n": 2}])
    again.close()

    assert [each.tried["n"] for each in reopened(path).waiting()] == [1, 2]


def test_a_damaged_line_is_not_taken_for_a_call(path: Path) -> None:
    spool = Spool(path)
    spool.tried([{"n": 1}, {"n": 2}])
    spool.close()
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))

    with pytest.raises(SpoolBroken, match="line 2"):
        reopened(path)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_what_does_not_fit_on_the_disk_is_refused_and_leaves_no_half_line(path: Path) -> None:
    spool = Spool(path)
    spool.tried([{"n": 1}])
    whole = path.stat().st_size
    with no_file_longer_than(whole + 10), pytest.raises(SpoolFull):
        spool.tried([{"n": 2}])
    assert path.stat().st_size == whole
    spool.tried([{"n": 3}])

    assert [each.tried["n"] for each in reopened(path).waiting()] == [1, 3]


def test_nobody_else_may_read_the_file(path: Path) -> None:
    Spool(path).tried([{}])

    assert path.stat().st_mode & 0o077 == 0
