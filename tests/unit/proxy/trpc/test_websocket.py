from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc import websocket as ws
from proxy.trpc.envelopes import Failure, Success, Unknown
from proxy.trpc.inputs import Malformed
from proxy.trpc.transformers import DEVALUE, NONE, SUPERJSON, TRANSFORMERS, UNDEFINED, Transformer
from proxy.trpc.websocket import (
    Answer,
    ConnectionParams,
    Correlation,
    KeepAlive,
    Reconnect,
    Request,
    Started,
    Stop,
    Stopped,
    Unreadable,
    parse_client_frame,
    parse_server_frame,
)


def test_the_calls_of_one_tick_come_as_an_array() -> None:
    frame = json.dumps(
        [
            {"id": 1, "method": "mutation", "params": {"input": None, "path": "a.b"}},
            {"id": "x", "jsonrpc": "2.0", "method": "query", "params": {"path": "c"}},
            {"id": 3, "method": "subscription", "params": {"path": "s", "lastEventId": "7"}},
            {"id": 3, "method": "subscription.stop"},
        ]
    )

    assert parse_client_frame(frame) == (
        Request(1, "mutation", "a.b", None),
        Request("x", "query", "c", UNDEFINED),
        Request(3, "subscription", "s", UNDEFINED, "7"),
        Stop(3),
    )


def test_credentials_come_first_and_show_in_no_repr() -> None:
    (params,) = parse_client_frame('{"method":"connectionParams","data":{"token":"sk-secret"}}')
    (request,) = parse_client_frame('{"id":1,"method":"query","params":{"path":"a","input":"sk-secret"}}')

    assert params == ConnectionParams({"token": "sk-secret"})
    assert "secret" not in repr((params, request))


def test_an_input_that_is_not_transformed_is_malformed_and_the_call_still_seen() -> None:
    (request,) = parse_client_frame('{"id":1,"method":"mutation","params":{"path":"a","input":5}}', SUPERJSON)

    assert isinstance(request, Request)
    assert isinstance(request.input, Malformed)


@pytest.mark.parametrize(
    "frame",
    [
        *("{oops", "5", "null", '{"id":1}', '{"id":1,"method":"nope","params":{"path":"a"}}', b"\x01\x02", ""),
        *('{"id":1,"method":"query"}', '{"id":1,"method":"query","params":{"path":7}}', "[" * 9000),
    ],
)
def test_what_is_no_call_is_unreadable(frame: str | bytes) -> None:
    assert {type(each) for each in parse_client_frame(frame)} == {Unreadable}


def test_one_bad_message_of_an_array_does_not_hide_the_others() -> None:
    first, second = parse_client_frame('[7,{"id":2,"method":"mutation","params":{"path":"a"}}]')

    assert isinstance(first, Unreadable)
    assert second == Request(2, "mutation", "a", UNDEFINED)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"id":3,"result":{"type":"data"}}', Answer(3, Success(UNDEFINED))),
        ('{"id":3,"result":{"type":"data","data":null}}', Answer(3, Success(None))),
        (
            '{"id":3,"result":{"type":"data","data":{"id":"9","data":1},"id":"9"}}',
            Answer(3, Success({"id": "9", "data": 1}), "9"),
        ),
        ('{"id":3,"error":{"message":"m","code":-32009}}', Answer(3, Failure("CONFLICT", 409, True, -32009))),
        (
            '{"id":null,"error":{"message":"m","code":-32603}}',
            Answer(None, Failure("INTERNAL_SERVER_ERROR", 500, False, -32603)),
        ),
        ('{"id":3,"result":{"type":"started"}}', Started(3)),
        ('{"id":3,"result":{"type":"stopped"}}', Stopped(3)),
        ('{"id":null,"method":"reconnect"}', Reconnect()),
        ("PONG", KeepAlive("PONG")),
    ],
)
def test_reads_what_a_server_says(frame: str, message: object) -> None:
    assert parse_server_frame(frame) == message


def test_an_answer_that_says_neither_is_unknown_but_settles_its_call() -> None:
    for frame in ('{"id":3,"result":7}', '{"id":3,"result":{},"error":{"code":-32600,"message":"m"}}'):
        answer = parse_server_frame(frame)
        assert isinstance(answer, Answer)
        assert answer.id == 3
        assert isinstance(answer.outcome, Unknown)


@pytest.mark.parametrize("frame", ["[]", "{}", '{"id":3,"result":{"type":"new"}}', b"\x00", "x"])
def test_what_no_server_says_is_unreadable(frame: str | bytes) -> None:
    assert isinstance(parse_server_frame(frame), Unreadable)


@pytest.mark.parametrize("transformer", [NONE, SUPERJSON, DEVALUE], ids=lambda each: each.name)
def test_what_is_written_reads_back(transformer: Transformer) -> None:
    def read(frame: str) -> object:
        return parse_server_frame(frame, transformer)

    assert read(ws.started(1)) == Started(1)
    assert read(ws.stopped("x")) == Stopped("x")
    assert read(ws.result(1, {"a": 1}, transformer=transformer)) == Answer(1, Success({"a": 1}))
    assert read(ws.result(1, UNDEFINED, transformer=transformer)) == Answer(1, Success(UNDEFINED))
    assert read(ws.tracked(1, "5", [1], transformer=transformer)) == Answer(1, Success({"id": "5", "data": [1]}), "5")
    failed = read(ws.error(1, "NOT_FOUND", "no such procedure", transformer=transformer, path="a"))
    assert failed == Answer(1, Failure("NOT_FOUND", 404, True, -32004))
    assert read(ws.RECONNECT) == Reconnect()


def test_calls_and_answers_meet_by_id_the_oldest_first() -> None:
    first, second = Request(1, "mutation", "a", 1), Request(1, "mutation", "a", 2)
    calls = Correlation()
    calls.sent(first)
    assert not calls.ambiguous(1)
    calls.sent(second)

    assert calls.ambiguous(1)
    assert calls.unanswered() == (first, second)
    assert calls.answered(1) is first
    assert calls.answered(1) is second
    assert calls.answered(1) is None
    assert calls.unanswered() == ()


@given(st.text(max_size=40) | st.binary(max_size=20), st.sampled_from(sorted(TRANSFORMERS)))
def test_any_frame_is_read(frame: str | bytes, transformer: str) -> None:
    assert isinstance(parse_client_frame(frame, TRANSFORMERS[transformer]), tuple)
    assert parse_server_frame(frame, TRANSFORMERS[transformer]) is not None


WORDS = st.sampled_from(
    ["id", "method", "params", "path", "input", "result", "error", "data", "type", "query", "started"]
)
MESSAGES = st.recursive(
    st.none() | st.integers() | st.floats() | WORDS,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(WORDS, each, max_size=5),
    max_leaves=12,
)


@given(MESSAGES, st.sampled_from(sorted(TRANSFORMERS)))
def test_any_json_is_read(message: object, transformer: str) -> None:
    frame = json.dumps(message)

    for each in parse_client_frame(frame, TRANSFORMERS[transformer]):
        assert isinstance(each, Request | Stop | ConnectionParams | KeepAlive | Unreadable)
    server = parse_server_frame(frame, TRANSFORMERS[transformer])
    assert isinstance(server, Answer | Started | Stopped | Reconnect | KeepAlive | Unreadable)
