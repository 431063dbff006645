from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc import sse
from proxy.trpc.envelopes import Failure, Unknown
from proxy.trpc.sse import Item, Returned, SseDecoder, SseEvent, encode_event, read_event
from proxy.trpc.transformers import DEVALUE, NONE, SUPERJSON, TRANSFORMERS, UNDEFINED, Transformer


def read(body: bytes, cuts: Sequence[int] = ()) -> list[SseEvent]:
    decoder = SseDecoder()
    borders = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [event for start, end in itertools.pairwise(borders) for event in decoder.feed(body[start:end])]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [SseEvent("message", "a")]),
        (b"data:a\r\ndata:  b\r\n\r\n", [SseEvent("message", "a\n b")]),
        (b"data: a\rid: 1\r\r", [SseEvent("message", "a", "1")]),
        (b"\xef\xbb\xbfevent: ping\ndata: \n\n\n", [SseEvent("ping", "")]),
        (b"data\n\n", [SseEvent("message", "")]),
        (b": comment\nretry: 50\nretry: x\nfoo: bar\ndata: a\n\n", [SseEvent("message", "a", None, 50)]),
        (b"event: ping\n\ndata: a\n\n", [SseEvent("message", "a")]),
        (b"id: 1\ndata: a\nid: \n\n", [SseEvent("message", "a", "")]),
        (b"id: a\0b\ndata: a\n\n", [SseEvent("message", "a")]),
        (b"data: \xff\n\n", [SseEvent("message", "\ufffd")]),
        (b"data: a\n", []),
        (b"", []),
    ],
)
def test_reads_as_the_standard_says(body: bytes, events: list[SseEvent]) -> None:
    assert read(body) == events
    assert read(body, range(len(body))) == events


def test_an_event_too_large_to_hold_is_passed_over_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "_LONGEST_EVENT", 20)
    body = b"data: " + b"x" * 30 + b"\ndata: y\nevent: z\n\ndata: next\n\n"

    assert read(body) == read(body, range(len(body))) == [SseEvent("message", "next")]


@given(
    st.binary(max_size=80) | st.text("data:ideventry \r\n\0é", max_size=80).map(str.encode),
    st.lists(st.integers(0, 99)),
)
def test_any_bytes_read_alike_however_they_are_cut(body: bytes, cuts: list[int]) -> None:
    whole = read(body)

    assert read(body, cuts) == whole
    assert read(body, range(len(body))) == whole


LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=20)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)


@given(
    LINES,
    st.none() | ASCII.filter(lambda name: name != "message"),
    st.none() | ASCII,
    st.none() | st.integers(0, 10**6),
)
def test_what_is_written_reads_back(data: str, event: str | None, event_id: str | None, retry: int | None) -> None:
    written = encode_event(data, event=event, event_id=event_id, retry=retry)

    assert read(written) == [SseEvent(event or "message", data, event_id, retry)]


@pytest.mark.parametrize("event_id", ["", "é", "a\nb", "a\rb", "a\0b"])
def test_an_id_that_a_client_could_not_send_back_is_refused(event_id: str) -> None:
    with pytest.raises(ValueError, match="ASCII"):
        encode_event("x", event_id=event_id)


def test_an_event_name_cannot_break_out_of_its_line() -> None:
    with pytest.raises(ValueError, match="name"):
        encode_event("x", event="a\ndata: b")


@pytest.mark.parametrize("transformer", [NONE, SUPERJSON, DEVALUE], ids=lambda each: each.name)
def test_messages_of_a_subscription_read_back(transformer: Transformer) -> None:
    body = b"".join(
        [
            sse.connected({"reconnectAfterInactivityMs": 200}),
            sse.item({"n": 1}, event_id="1", transformer=transformer),
            sse.item("x\ny", transformer=transformer, retry=50),
            sse.PING,
            sse.serialized_error("FORBIDDEN", "no", transformer=transformer, path="events.subscribe", retry=5000),
            sse.RETURN,
        ]
    )

    assert [read_event(each, transformer) for each in read(body)] == [
        None,
        Item({"n": 1}, "1"),
        Item("x\ny"),
        None,
        Failure("FORBIDDEN", 403, True, -32003),
        Returned(),
    ]


def test_every_event_that_the_client_must_see_has_data() -> None:
    for written in (sse.PING, sse.RETURN, sse.connected(), sse.item(None), sse.item(UNDEFINED)):
        assert b"data: " in written
    assert b"data: null\n" in sse.item(UNDEFINED)
    assert b"data: {}\n" in sse.connected()


def test_the_options_of_the_client_are_never_transformed() -> None:
    (event,) = read(sse.connected({"a": 1}))

    assert json.loads(event.data) == {"a": 1}


def test_an_event_that_is_no_item_says_nothing() -> None:
    assert read_event(SseEvent("restore-id", "", "1")) is None
    assert read_event(SseEvent("message", "undefined")) == Item(UNDEFINED)
    assert isinstance(read_event(SseEvent("message", "{oops")), Unknown)
    assert isinstance(read_event(SseEvent("message", "{}"), SUPERJSON), Unknown)


def test_no_repr_holds_data() -> None:
    event = SseEvent("message", '"sk-secret"')

    assert "secret" not in repr((event, read_event(event), read_event(SseEvent("message", "sk-secret"))))


@given(
    st.text(max_size=30),
    st.sampled_from(["message", "serialized-error", "return"]),
    st.sampled_from(sorted(TRANSFORMERS)),
)
def test_any_data_is_read(data: str, event: str, transformer: str) -> None:
    said = read_event(SseEvent(event, data), TRANSFORMERS[transformer])

    assert isinstance(said, Item | Returned | Failure | Unknown)
