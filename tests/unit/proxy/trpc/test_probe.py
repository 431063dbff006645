from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.errors import error_body
from proxy.trpc.probe import Procedure, read_probe
from proxy.trpc.transformers import DEVALUE, NONE, SUPERJSON, TRANSFORMERS, Transformer

SAMPLES = sorted((Path(__file__).parents[3] / "data" / "trpc").glob("v11-*put-oracle-*.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_captured_refusal_names_the_type(path: Path) -> None:
    response = json.loads(path.read_text())["response"]
    headers = response["headers"]
    found = read_probe(
        response["status"], headers["allow"].encode(), headers["content-type"].encode(), response["body"].encode()
    )

    assert found is not None
    assert f"-{found.value}" in path.stem


@pytest.mark.parametrize("transformer", [NONE, SUPERJSON, DEVALUE], ids=lambda each: each.name)
def test_the_message_speaks_through_a_transformer_and_needs_no_header(transformer: Transformer) -> None:
    message = 'Unsupported PUT-request to mutation procedure at path "a"'
    status, body = error_body("METHOD_NOT_SUPPORTED", message, transformer=transformer)

    assert read_probe(status, None, b"application/json", body, transformer) is Procedure.MUTATION


@pytest.mark.parametrize(
    ("allow", "found"),
    [
        (b"POST", Procedure.MUTATION),
        (b"GET", Procedure.QUERY),
        (b"get, post", Procedure.QUERY),
        (None, None),
        (b"POST, PATCH", None),
    ],
)
def test_the_header_speaks_when_the_message_was_rewritten(allow: bytes | None, found: Procedure | None) -> None:
    status, body = error_body("METHOD_NOT_SUPPORTED", "nope")

    assert read_probe(status, allow, b"application/json", body) is found


def test_a_path_without_procedure_is_absent() -> None:
    status, body = error_body("NOT_FOUND", 'No procedure found on path "a"')

    assert read_probe(status, None, None, body) is Procedure.ABSENT


@pytest.mark.parametrize("code", ["UNAUTHORIZED", "INTERNAL_SERVER_ERROR", "UNSUPPORTED_MEDIA_TYPE"])
def test_another_error_says_nothing(code: str) -> None:
    status, body = error_body(code, "m")

    assert read_probe(status, b"POST", None, body) is None


def test_an_answer_that_is_not_trpc_says_nothing() -> None:
    assert read_probe(404, b"POST", b"text/html", b"<html>Cannot PUT</html>") is None
    assert read_probe(200, None, b"text/event-stream", b"data: {}\n\n") is None
    assert read_probe(200, None, b"application/json", b'{"result":{}}') is None


@given(st.integers(100, 599), st.binary(max_size=40), st.booleans(), st.sampled_from(sorted(TRANSFORMERS)))
def test_any_answer_is_read(status: int, body: bytes, events: bool, transformer: str) -> None:
    content_type = b"text/event-stream" if events else b"application/json"
    for text in (body, b"event: serialized-error\ndata: " + body + b"\n\n", b'{"error":' + body + b"}"):
        found = read_probe(status, b"POST", content_type, text, TRANSFORMERS[transformer])
        assert found is None or isinstance(found, Procedure)
