"""What is held of a body goes on byte for byte, never beyond what has been read, however it is cut or packed."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.roads.encodings import Held, Undecodable, plainly, tolerant, unpacking

CUTS = st.lists(st.integers(1, 40), max_size=30)


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    return [piece for piece in (*pieces, body) if piece]


def packed(body: bytes, encoding: bytes) -> bytes:
    return {b"": body, b"gzip": gzip.compress(body), b"deflate": zlib.compress(body)}[encoding]


@given(
    st.binary(max_size=400),
    CUTS,
    st.lists(st.integers(0, 400), max_size=30),
    st.sampled_from([b"", b"gzip", b"deflate"]),
)
def test_what_is_let_go_is_the_body_as_it_came(
    body: bytes, sizes: list[int], releases: list[int], encoding: bytes
) -> None:
    unpack = unpacking([(b"Content-Encoding", encoding)])
    held, gone, read = Held(unpack), b"", b""
    offsets = iter(sorted(releases))
    for piece in cut(packed(body, encoding), sizes):
        read += held.take(piece)
        gone += held.release(min(next(offsets, 0), len(read)))
        assert held.size + len(gone) <= len(packed(body, encoding))
    gone += held.rest()
    assert (read, gone, held.size) == (body, packed(body, encoding), 0)


@given(st.binary(min_size=1, max_size=300), CUTS, st.integers(0, 300))
def test_plain_bytes_go_exactly_as_far_as_they_may(body: bytes, sizes: list[int], offset: int) -> None:
    held = Held(plainly)
    for piece in cut(body, sizes):
        held.take(piece)
    assert held.release(offset) == body[:offset]


@given(st.binary(min_size=1, max_size=300), CUTS, st.integers(0, 300))
def test_packed_pieces_that_hold_more_than_may_go_stay(body: bytes, sizes: list[int], offset: int) -> None:
    held = Held(unpacking([(b"content-encoding", b"gzip")]))
    for piece in cut(gzip.compress(body), sizes):
        held.take(piece)
    assert body[:offset].startswith(zlib.decompressobj(wbits=31).decompress(held.release(offset)))


def test_what_cannot_be_unpacked_is_kept_all_the_same() -> None:
    held = Held(unpacking([(b"content-encoding", b"gzip")]))
    with pytest.raises(Undecodable):
        held.take(b"no gzip at all")
    assert held.rest() == b"no gzip at all"
    with pytest.raises(Undecodable, match="br"):
        unpacking([(b"Content-Encoding", b"br")])


def test_a_tolerant_reader_stops_where_it_cannot_go_on() -> None:
    read = tolerant(unpacking([(b"content-encoding", b"gzip")]))
    assert (read(b"no gzip"), read(gzip.compress(b"late"))) == (b"", b"")
    assert tolerant(plainly) is plainly
