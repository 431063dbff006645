"""What a subscriber asks for is read strictly, and begins where nothing is missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.subscriptions.plain import read_wish
from proxy.subscriptions.wishes import (
    After,
    Last,
    Reset,
    Why,
    Wish,
    WishRefused,
    begin,
    read_cursor,
    read_patterns,
    wish_of_input,
)
from shadow.events import Cursor
from shadow.json import Json

HEAD = Cursor("abc123", 10)


@pytest.mark.parametrize(
    ("wish", "beginning"),
    [
        (Wish(("*",)), After(10)),
        (Wish(("*",), last=5), Last(5)),
        (Wish(("*",), after=3, last=5), After(3)),
        (Wish(("*",), after=0), After(0)),
        (Wish(("*",), after=Cursor("abc123", 10)), After(10)),
        (Wish(("*",), after=Cursor("abc123", 11)), Reset(Why.AHEAD)),
        (Wish(("*",), after=11), Reset(Why.AHEAD)),
        (Wish(("*",), after=Cursor("other1", 3)), Reset(Why.FOREIGN)),
    ],
)
def test_a_subscription_begins_after_its_cursor_or_is_told_that_it_cannot(wish: Wish, beginning: object) -> None:
    assert begin(wish, HEAD) == beginning


@given(st.text(max_size=30))
def test_a_cursor_is_read_back_as_it_was_written_and_everything_else_is_refused(text: str) -> None:
    try:
        read = read_cursor(text)
    except WishRefused:
        return
    assert read is None or str(read) == text or str(read) == str(int(text))


@given(st.from_regex(r"[0-9a-f]{6}", fullmatch=True), st.integers(0, 2**62))
def test_every_cursor_that_is_given_out_can_be_read(epoch: str, position: int) -> None:
    assert read_cursor(str(Cursor(epoch, position))) == Cursor(epoch, position)


@pytest.mark.parametrize(
    ("given_input", "wish"),
    [
        (None, Wish(("*",))),
        ({}, Wish(("*",))),
        ({"pattern": "session:*"}, Wish(("session:*",))),
        ({"channel": "a", "channels": ["b", "a"]}, Wish(("a", "b"))),
        ({"types": ["x"], "replayLast": 3}, Wish(("*",), frozenset({"x"}), None, 3)),
        ({"fromCursor": {"timestamp": 5, "sequence": 7}}, Wish(("*",), after=7)),
        ({"fromCursor": "abc123-7"}, Wish(("*",), after=Cursor("abc123", 7))),
        ({"fromCursor": 3, "lastEventId": "abc123-7"}, Wish(("*",), after=Cursor("abc123", 7))),
    ],
)
def test_a_trpc_input_is_understood_in_all_its_shapes(given_input: Json, wish: Wish) -> None:
    assert wish_of_input(given_input) == wish


def test_what_a_client_resumes_with_goes_before_what_it_asked_for_at_first() -> None:
    resumed = wish_of_input({"fromCursor": 1, "lastEventId": "abc123-2"}, last_event_id="abc123-3")
    assert resumed.after == Cursor("abc123", 3)


@pytest.mark.parametrize(
    "given_input",
    [
        "text",
        [],
        {"pattern": 1},
        {"channels": [1]},
        {"pattern": "a*b"},
        {"pattern": ""},
        {"pattern": "a\nb"},
        {"channels": ["c"] * 2 + [str(number) for number in range(64)]},
        {"types": "x"},
        {"types": [1]},
        {"replayLast": 10_001},
        {"replayLast": True},
        {"fromCursor": []},
        {"fromCursor": {"sequence": None, "timestamp": 1}, "lastEventId": 1.5},
        {"fromCursor": "x-y"},
    ],
)
def test_what_cannot_be_understood_is_refused(given_input: Json) -> None:
    with pytest.raises(WishRefused):
        wish_of_input(given_input)


def test_the_header_goes_before_the_address() -> None:
    query = {"channel": ["a", "b"], "type": ["x,y", "z"], "after": ["3"], "last": ["2"]}
    wish = read_wish(query, [(b"Last-Event-ID", b"abc123-9")])
    assert wish == Wish(("a", "b"), frozenset("xyz"), Cursor("abc123", 9), 2)


@given(st.lists(st.text(alphabet="ab:*", min_size=1, max_size=5), max_size=5))
def test_patterns_keep_their_order_and_are_named_once(patterns: list[str]) -> None:
    try:
        read = read_patterns(patterns)
    except WishRefused:
        assert any("*" in pattern[:-1] for pattern in patterns)
        return
    assert read == (tuple(dict.fromkeys(patterns)) or ("*",))
