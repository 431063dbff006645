from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.envelopes import CallOutcome, Failure, Success, Unknown, verdict
from proxy.trpc.errors import error_shape
from proxy.trpc.streams import (
    Decoded,
    JsonLinesDecoder,
    StreamDecoder,
    StreamKind,
    V10StreamDecoder,
    stream_decoder,
    stream_kind,
)
from proxy.trpc.transformers import DEVALUE, NONE, SUPERJSON, TRANSFORMERS, UNDEFINED, Transformer

SHAPE = error_shape("CONFLICT", "m")
CONFLICT = Failure("CONFLICT", 409, True, -32009)


def lines(*values: object, transformer: Transformer = NONE) -> bytes:
    return b"".join(json.dumps(transformer.encode(value)).encode() + b"\n" for value in values)


def read(decoder: StreamDecoder, body: bytes, cuts: Sequence[int] = ()) -> list[Decoded]:
    decoded: list[Decoded] = []
    borders = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(borders):
        decoded += decoder.feed(body[start:end])
    return decoded + decoder.close()


def outcomes(decoder: StreamDecoder, body: bytes) -> list[CallOutcome]:
    return [each.outcome for each in sorted(read(decoder, body), key=lambda each: each.index)]


HEAD = {"0": [[0], [None, 0, 0]], "1": [[0], [None, 0, 1]]}
RESULT = [0, 0, [[{"result": 0}], ["result", 0, 2]]]
DATA = [2, 0, [[{"data": 0}], ["data", 0, 3]]]


@pytest.mark.parametrize("transformer", [NONE, SUPERJSON, DEVALUE], ids=lambda each: each.name)
def test_a_call_is_settled_by_the_line_that_carries_its_data_or_its_error(transformer: Transformer) -> None:
    parts = [
        lines(each, transformer=transformer)
        for each in (HEAD, RESULT, DATA, [1, 0, [[{"error": SHAPE}]]], [3, 0, [[{"id": "p1"}]]])
    ]
    decoder = JsonLinesDecoder(2, transformer)

    assert decoder.feed(b"".join(parts[:3])) == []
    assert decoder.cleared == len(b"".join(parts[:3]))
    assert decoder.feed(parts[3]) == [Decoded(1, CONFLICT, len(b"".join(parts[:4])))]
    assert decoder.feed(parts[4]) == [Decoded(0, Success({"id": "p1"}), len(b"".join(parts)))]
    assert decoder.close() == []


def test_an_empty_payload_is_undefined() -> None:
    assert outcomes(JsonLinesDecoder(1), lines({"0": HEAD["0"]}, RESULT, DATA, [3, 0, [[]]])) == [Success(UNDEFINED)]
    assert outcomes(JsonLinesDecoder(1), lines({"0": HEAD["0"]}, RESULT, [2, 0, [[{}]]])) == [Success(UNDEFINED)]


def test_a_head_without_deferred_parts_settles_at_once() -> None:
    body = lines({"0": [[{"result": {"data": "x"}}]], "1": [[{"error": SHAPE}]]})

    assert read(JsonLinesDecoder(2), body) == [Decoded(0, Success("x"), len(body)), Decoded(1, CONFLICT, len(body))]


def test_pings_are_no_part_of_a_line_and_pass_at_once() -> None:
    decoder = JsonLinesDecoder(2)
    decoder.feed(lines(HEAD))
    decoder.feed(b" ")
    decoder.feed(b"   ")

    assert decoder.cleared == len(lines(HEAD)) + 4
    assert len(decoder.feed(b" " + lines([1, 0, [[{"error": SHAPE}]]]))) == 1


def test_a_line_that_has_not_ended_is_not_cleared() -> None:
    decoder = JsonLinesDecoder(2)
    decoder.feed(lines(HEAD) + b" [1,0,[[{")

    assert decoder.cleared == len(lines(HEAD))


def test_promises_inside_the_data_do_not_hold_the_call_up() -> None:
    decoder = JsonLinesDecoder(1)
    settled = decoder.feed(lines({"0": HEAD["0"]}, RESULT, DATA, [3, 0, [[{"id": "p9", "later": 0}], ["later", 0, 4]]]))

    assert [each.outcome for each in settled] == [Success({"id": "p9"})]
    decoder.feed(lines([4, 0, [[{"deep": 0}], ["deep", 0, 5]]], [5, 0, [["x"]]]))
    assert decoder.close() == []
    assert decoder.outcomes() == (Success({"id": "p9", "later": {"deep": "x"}}),)


def test_a_generator_is_settled_by_its_end() -> None:
    decoder = JsonLinesDecoder(1)

    assert decoder.feed(lines({"0": HEAD["0"]}, RESULT, DATA, [3, 0, [[0], [None, 1, 4]]], [4, 1, [["step"]]])) == []
    (settled,) = decoder.feed(lines([4, 0, [["done"]]]))
    assert settled.outcome == Success({"$stream": ["step"], "end": ["return", "done"]})
    assert verdict(settled.outcome) == "applied"


def test_a_generator_that_throws_leaves_doubt() -> None:
    body = lines({"0": HEAD["0"]}, RESULT, DATA, [3, 0, [[0], [None, 1, 4]]], [4, 1, [[1]]], [4, 2, SHAPE])
    (outcome,) = outcomes(JsonLinesDecoder(1), body)

    assert outcome == Success({"$stream": [1], "end": ["error", SHAPE]}, interrupted=True)
    assert verdict(outcome) == "in_doubt"


def test_a_rejected_promise_is_no_proof_because_the_resolver_had_returned() -> None:
    (outcome,) = outcomes(JsonLinesDecoder(1), lines({"0": HEAD["0"]}, RESULT, DATA, [3, 1, SHAPE]))

    assert outcome == Failure("CONFLICT", 409, False, -32009)


@pytest.mark.parametrize(
    "body",
    [
        lines(HEAD),
        lines(HEAD, RESULT, DATA),
        lines(HEAD, RESULT, DATA) + b'[3,0,[[{"id":"p',
        lines(HEAD) + b"garbage\n" + lines([0, 0, [[{"result": {}}]]]),
        lines(HEAD, [9, 0, [[1]]], [0, 0, "odd"]),
        lines(HEAD, RESULT, [2, 0, [[0], [None, 1, 7]]]),
        lines({"1": HEAD["1"]}),
        lines({"7": [[{"result": {}}]]}),
    ],
)
def test_what_a_stream_leaves_open_is_unknown(body: bytes) -> None:
    decoded = read(JsonLinesDecoder(2), body)

    assert [each.index for each in decoded] == [0, 1]
    assert all(isinstance(each.outcome, Unknown) for each in decoded)


def test_a_last_line_without_its_newline_still_tells() -> None:
    body = lines({"0": HEAD["0"]}, RESULT, DATA, [3, 0, [[1]]])[:-1]

    assert read(JsonLinesDecoder(1), body) == [Decoded(0, Success(1), len(body))]


@pytest.mark.parametrize("decoder", [JsonLinesDecoder, V10StreamDecoder])
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_server_may_answer_plainly(decoder: type[StreamDecoder], newline: bytes) -> None:
    error = json.dumps({"error": SHAPE}).encode() + newline
    array = b'[{"result":{"data":1}},\n{"error":{"message":"m","code":-32009}}]' + newline

    assert outcomes(decoder(2, status=409), error) == [CONFLICT, CONFLICT]
    assert outcomes(decoder(2, status=207), array) == [Success(1), CONFLICT]
    assert {type(each) for each in outcomes(decoder(2), b"<html>\n</html>" + newline)} == {Unknown}
    assert {type(each) for each in outcomes(decoder(2), newline)} == {Unknown}


def test_nothing_of_a_plain_answer_is_cleared_before_it_is_whole() -> None:
    decoder = JsonLinesDecoder(2)
    decoder.feed(b'[{"result":{"data":1}},\n')
    decoder.feed(b'{"result":{}}]\n')
    assert decoder.cleared == 0

    decoder.close()
    assert decoder.cleared == len(b'[{"result":{"data":1}},\n{"result":{}}]\n')


def test_members_of_a_v10_stream_come_in_order_of_completion() -> None:
    first = b'{"1":{"result":{}}\n'
    second = b',"0":' + json.dumps({"error": SHAPE}).encode() + b"\n"
    decoder = V10StreamDecoder(2)

    assert decoder.feed(first) == [Decoded(1, Success(UNDEFINED), len(first))]
    assert decoder.feed(second + b"}") == [Decoded(0, CONFLICT, len(first + second))]
    assert decoder.close() == []


def test_v10_applies_the_transformer_to_each_envelope() -> None:
    body = b'{"0":{"result":{"data":{"json":null,"meta":{"values":["undefined"],"v":1}}}}\n}'

    assert outcomes(V10StreamDecoder(1, SUPERJSON), body) == [Success(UNDEFINED)]


def test_a_v10_stream_that_is_cut_short_leaves_the_rest_unknown() -> None:
    known, unknown = outcomes(V10StreamDecoder(2), b'{"0":{"result":{"data":1}}\n,"1":{"result":{"da')

    assert known == Success(1)
    assert isinstance(unknown, Unknown)


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ([(b"trpc-accept", b"application/jsonl")], StreamKind.JSON_LINES),
        ([(b"Accept", b"text/html, Application/JSONL;q=0.9")], StreamKind.JSON_LINES),
        ([(b"accept", b"*/*"), (b"Trpc-Batch-Mode", b"stream")], StreamKind.V10),
        ([(b"accept", b"application/json")], None),
        ([], None),
    ],
)
def test_the_request_tells_which_stream_it_asks_for(
    headers: list[tuple[bytes, bytes]], kind: StreamKind | None
) -> None:
    assert stream_kind(headers) is kind


CUTS = st.lists(st.integers(0, 10_000), max_size=12)
CALL = st.sampled_from(["void", "data", "error", "promise", "generator", "nothing"])


def streamed(calls: list[str], order: list[int]) -> bytes:
    """The lines that a v11 server writes for such calls, those of different calls interleaved by `order`."""
    queues: list[list[Any]] = []
    for index, call in enumerate(calls):
        at = 100 * (index + 1)
        error: list[Any] = [[index, 0, [[{"error": SHAPE}]]]]
        result: list[Any] = [
            [index, 0, [[{"result": 0}], ["result", 0, at]]],
            [at, 0, [[{"data": 0}], ["data", 0, at + 1]]],
        ]
        data: dict[str, list[Any]] = {
            "void": [[at + 1, 0, [[]]]],
            "data": [[at + 1, 0, [[{"n": index}]]]],
            "promise": [[at + 1, 0, [[{"n": index, "p": 0}], ["p", 0, at + 2]]], [at + 2, 0, [["é😀"]]]],
            "generator": [[at + 1, 0, [[0], [None, 1, at + 2]]], [at + 2, 1, [[index]]], [at + 2, 0, [[]]]],
            "nothing": [],
        }
        queues.append(error if call == "error" else [*result, *data[call]])
    head = {str(index): [[0], [None, 0, index]] for index in range(len(calls))}
    body: list[object] = [head]
    for turn in order + list(range(len(calls))) * 10:
        queue = queues[turn % len(calls)]
        if queue:
            body.append(queue.pop(0))
    return lines(*body)


@given(st.lists(CALL, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=12), CUTS)
def test_every_call_is_told_whatever_the_order_and_the_cutting(
    calls: list[str], order: list[int], cuts: list[int]
) -> None:
    body = streamed(calls, order)
    whole = read(JsonLinesDecoder(len(calls)), body)
    kinds = {each.index: verdict(each.outcome) for each in whole}

    expected = {"error": "rejected", "nothing": "in_doubt"}
    assert kinds == {index: expected.get(call, "applied") for index, call in enumerate(calls)}
    assert read(JsonLinesDecoder(len(calls)), body, cuts) == whole
    assert read(JsonLinesDecoder(len(calls)), body, range(len(body))) == whole


LINES = (
    *(b'{"0":[[0],[null,0,0]]}', b'[0,0,[[{"result":0}],["result",0,1]]]', b'[1,0,[[{"data":0}],["data",0,2]]]'),
    *(b"[2,0,[[]]]", b"[2,0,[[0],[null,1,2]]]", b"[0,1,{}]", b'{"0":{"result":{}}', b',"1":{"error":{}}'),
    *(b"\n", b" ", b"}", b"[", b"\xff", b"-1"),
)
FRAGMENTS = st.lists(st.sampled_from(LINES) | st.binary(max_size=6), max_size=12)


@given(FRAGMENTS, CUTS, st.integers(0, 3), st.sampled_from(list(StreamKind)), st.sampled_from(sorted(TRANSFORMERS)))
def test_any_bytes_tell_every_call_once_and_alike_however_cut(
    fragments: list[bytes], cuts: list[int], count: int, kind: StreamKind, transformer: str
) -> None:
    body = b"".join(fragments)
    whole = read(stream_decoder(kind, count, TRANSFORMERS[transformer]), body)

    assert sorted(each.index for each in whole) == list(range(count))
    assert read(stream_decoder(kind, count, TRANSFORMERS[transformer]), body, cuts) == whole


@given(FRAGMENTS, CUTS, st.sampled_from(list(StreamKind)))
def test_no_outcome_lies_beyond_what_is_cleared_and_nothing_is_taken_back(
    fragments: list[bytes], cuts: list[int], kind: StreamKind
) -> None:
    body = b"".join(fragments)
    decoder = stream_decoder(kind, 2)
    cleared = 0
    borders = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(borders):
        for each in decoder.feed(body[start:end]):
            assert cleared < each.end_offset <= decoder.cleared
        assert cleared <= decoder.cleared <= end
        cleared = decoder.cleared
    for each in decoder.close():
        assert each.end_offset <= decoder.cleared == len(body)
