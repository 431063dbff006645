"""Which headers go on and where a message ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.framing import (
    CHUNKED,
    HOP_BY_HOP,
    UNTIL_CLOSE,
    BadAnswer,
    Pairs,
    Refused,
    Sender,
    answer_head,
    idle_hint,
    is_trusted,
    origin_target,
    parse_length,
    request_head,
    trailer_fields,
)

HOST = (b"Host", b"a.example")
LOCAL = Sender(b"10.0.0.9", b"http", True)
STRANGER = Sender(b"203.0.113.5", b"http", False)


def onward(*headers: tuple[bytes, bytes], sender: Sender | None = None, version: bytes = b"1.1") -> Pairs:
    return request_head(b"POST", b"/", [HOST, *headers], sender, version=version).headers[1:]


def status_of(*headers: tuple[bytes, bytes], version: bytes = b"1.1") -> int:
    with pytest.raises(Refused) as refused:
        request_head(b"POST", b"/", headers, None, version=version)
    return refused.value.status


names = st.text("abcdefghijklmnopqrstuvwxyz-ABCXYZ", min_size=1, max_size=20).map(str.encode)
values = st.binary(max_size=20)
letter_cases = st.sampled_from([bytes.upper, bytes.lower, bytes.title])


@given(st.lists(st.tuples(names, values)))
def test_end_to_end_headers_go_on_as_they_are(headers: Pairs) -> None:
    kept = [p for p in headers if p[0].lower() not in HOP_BY_HOP | {b"host", b"content-length", b"expect"}]
    assert onward(*kept) == kept


@given(st.lists(st.tuples(names, values)), st.sampled_from(sorted(HOP_BY_HOP - {b"connection", b"te"})), letter_cases)
def test_hop_by_hop_headers_never_go_on(headers: Pairs, name: bytes, cased: object) -> None:
    assert callable(cased)
    value = b"chunked" if name == b"transfer-encoding" else b"x"
    rest = [p for p in headers if p[0].lower() not in HOP_BY_HOP | {b"host", b"content-length", b"expect"}]
    assert onward(*rest[:1], (cased(name), value), *rest[1:]) == rest


@given(names.filter(lambda name: name.lower() not in HOP_BY_HOP | {b"host", b"expect", b"content-type", b"cookie"}))
def test_what_connection_names_goes_too_however_it_is_written(name: bytes) -> None:
    if name.lower() in (b"close", b"content-length", b"authorization"):
        return
    named = (b"cOnnection", b"close , " + name.swapcase())
    assert onward((b"Keep", b"1"), (name, b"x"), named) == ([] if name.lower() == b"keep" else [(b"Keep", b"1")])


@pytest.mark.parametrize("name", [b"Host", b"content-length", b"Authorization", b"Cookie", b"Content-Type"])
def test_connection_may_not_name_what_others_need(name: bytes) -> None:
    assert status_of(HOST, (b"Connection", name)) == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        ([HOST, HOST], 400),
        ([HOST, (b"host", b"b")], 400),
        ([HOST, (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")], 400),
        ([HOST, (b"Content-Length", b"3"), (b"Content-Length", b"3")], 400),
        ([HOST, (b"Content-Length", b"3, 3")], 400),
        ([HOST, (b"Content-Length", b"+3")], 400),
        ([HOST, (b"Content-Length", b"0x3")], 400),
        ([HOST, (b"Content-Length", b"")], 400),
        ([HOST, (b"Content-Length", "٣".encode())], 400),
        ([HOST, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")], 501),
        ([HOST, (b"Transfer-Encoding", b"chunked, chunked")], 501),
        ([HOST, (b"Transfer-Encoding", b"gzip, chunked")], 501),
        ([HOST, (b"Transfer-Encoding", b"identity")], 501),
        ([HOST, (b"Transfer-Encoding", b"\x0bchunked")], 501),
        ([HOST, (b"Expect", b"200-maybe")], 417),
    ],
)
def test_a_request_that_could_be_read_in_two_ways_is_refused(headers: Pairs, status: int) -> None:
    assert status_of(*headers) == status


def test_http_1_0_needs_no_host_and_knows_no_transfer_encoding() -> None:
    assert request_head(b"GET", b"/", [], None, version=b"1.0").headers == []
    assert status_of((b"Transfer-Encoding", b"chunked"), version=b"1.0") == 400


def test_a_declared_length_stays_where_it_was_and_is_known() -> None:
    head = request_head(b"POST", b"/", [(b"content-LENGTH", b"5"), HOST], None)
    assert (head.headers, head.content_length) == ([(b"content-LENGTH", b"5"), HOST], 5)


def test_expect_100_continue_is_answered_here_and_te_keeps_only_trailers() -> None:
    assert onward((b"Expect", b"100-Continue"), (b"TE", b"gzip, trailers;q=0.5")) == [(b"TE", b"trailers")]


def test_traceparent_is_untouched() -> None:
    trace = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), (b"tracestate", b"a=1")]
    assert onward(*trace, sender=LOCAL)[:2] == trace


def test_the_first_proxy_tells_where_a_request_came_from() -> None:
    assert onward(sender=LOCAL) == [
        (b"X-Forwarded-For", b"10.0.0.9"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a.example"),
        (b"Via", b"1.1 changeover"),
    ]


TOLD = (
    (b"x-forwarded-for", b"198.51.100.7"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"shop.example"),
    (b"Forwarded", b"for=198.51.100.7;proto=https"),
    (b"Via", b"1.1 lb"),
)


def test_a_trusted_sender_is_believed_and_added_to() -> None:
    assert onward(*TOLD, sender=LOCAL) == [
        (b"X-Forwarded-For", b"198.51.100.7, 10.0.0.9"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"Forwarded", b'for=198.51.100.7;proto=https, for=10.0.0.9;proto=http;host="a.example"'),
        (b"Via", b"1.1 lb, 1.1 changeover"),
    ]


def test_a_stranger_cannot_say_that_it_is_somebody_else() -> None:
    assert onward(*TOLD, sender=STRANGER) == [
        (b"X-Forwarded-For", b"203.0.113.5"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"a.example"),
        (b"Via", b"1.1 lb, 1.1 changeover"),
    ]


def test_without_telling_these_headers_pass_as_they_are() -> None:
    assert onward(*TOLD, sender=None) == list(TOLD)


def test_a_request_that_goes_round_in_a_circle_is_stopped() -> None:
    via: Pairs = []
    for _ in range(8):
        via = [pair for pair in onward(*via, sender=LOCAL) if pair[0] == b"Via"]
    with pytest.raises(Refused) as refused:
        onward(*via, sender=LOCAL)
    assert refused.value.status == 508


def test_an_ipv6_address_is_quoted_in_forwarded() -> None:
    sender = Sender(b"2001:db8::1", b"https", True)
    forwarded = dict(onward((b"Forwarded", b"for=x"), sender=sender))[b"Forwarded"]
    assert forwarded == b'for=x, for="[2001:db8::1]";proto=https;host="a.example"'


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("11.0.0.1", False), (None, True), ("nonsense", False)],
)
def test_trust_is_by_network(address: str | None, trusted: bool) -> None:
    assert is_trusted(address, ("10.0.0.0/8", "::1/128")) is trusted


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"/a/../b?x=%2F#".rstrip(b"#"), b"/a/../b?x=%2F"),
        (b"*", b"*"),
        (b"http://a.example/x?y", b"/x?y"),
        (b"HTTP://A.example", b"/"),
        (b"http://a.example?y", b"/?y"),
    ],
)
def test_targets_become_origin_form(target: bytes, origin: bytes) -> None:
    assert origin_target(target, b"a.example") == origin


@pytest.mark.parametrize(
    "target", [b"/a#b", b"http://b.example/", b"ftp://a.example/", b"a", b"", b"http://a.example/#x"]
)
def test_targets_that_could_be_routed_in_two_ways_are_refused(target: bytes) -> None:
    with pytest.raises(Refused):
        origin_target(target, b"a.example")


def read(
    *headers: tuple[bytes, bytes], status: int = 200, method: bytes = b"GET", keep_alive: bool = True
) -> tuple[int, Pairs, bool, float | None]:
    return tuple(answer_head(method, status, list(headers), keep_alive=keep_alive))  # type: ignore[return-value]


CHUNKED_ONCE = (b"Transfer-Encoding", b"chunked")


@pytest.mark.parametrize(
    "headers",
    [[CHUNKED_ONCE], [CHUNKED_ONCE, CHUNKED_ONCE], [(b"transfer-encoding", b"Chunked, chunked")]],
)
def test_chunked_said_once_or_twice_is_chunked(headers: Pairs) -> None:
    assert read(*headers)[:2] == (CHUNKED, [])


@pytest.mark.parametrize(
    "headers",
    [
        [CHUNKED_ONCE, (b"Content-Length", b"3")],
        [(b"Transfer-Encoding", b"gzip")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Content-Length", b"3"), (b"Content-Length", b"4")],
        [(b"Content-Length", b"3"), (b"Content-Length", b"3")],
        [(b"Content-Length", b"-1")],
    ],
)
def test_an_answer_whose_end_is_in_doubt_is_not_read(headers: Pairs) -> None:
    with pytest.raises(BadAnswer):
        read(*headers)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    assert read() == (UNTIL_CLOSE, [], False, None)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_answers_without_a_body_keep_the_length_they_tell(method: bytes, status: int) -> None:
    length = (b"Content-Length", b"100")
    assert read(length, method=method, status=status)[:3] == (0, [length], True)


@pytest.mark.parametrize(
    ("connection", "before", "after"),
    [(b"close", True, False), (b"Keep-Alive", False, True), (b"x, CLOSE", True, False), (b"x", True, True)],
)
def test_connection_says_whether_it_stays_open(connection: bytes, before: bool, after: bool) -> None:
    length = (b"Content-Length", b"0")
    got = read(length, (b"X", b"dropped"), (b"Connection", connection), keep_alive=before)
    assert got[2] is after
    assert got[1] == ([length] if b"x" in connection else [length, (b"X", b"dropped")])


@pytest.mark.parametrize(
    ("value", "seconds"), [(b"timeout=5", 5.0), (b"max=9, Timeout = 72", 72.0), (b"max=100", None), (b"", None)]
)
def test_keep_alive_tells_the_idle_limit(value: bytes, seconds: float | None) -> None:
    assert idle_hint(value) == seconds
    assert read((b"Keep-Alive", value))[3] == seconds


def test_trailers_that_frame_or_route_do_not_go_on() -> None:
    good = [(b"X-Checksum", b"1"), (b"Server-Timing", b"a")]
    bad = [(b"Content-Length", b"3"), (b"transfer-encoding", b"chunked"), (b"Host", b"x"), (b"Trailer", b"y")]
    assert trailer_fields([*good, *bad]) == good


@given(st.integers(0, 10**17))
def test_lengths_are_plain_digits(length: int) -> None:
    assert parse_length(b"%d" % length) == length
    assert parse_length(b"-%d" % length) is None
