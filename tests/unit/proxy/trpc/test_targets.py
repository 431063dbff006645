from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.trpc.targets import Calls, NotCalls, Refused, Target, parse_target


def parse(
    path: str | bytes, query: bytes = b"", *, method: str = "POST", base: str = "/trpc", sep: str = "."
) -> Target:
    raw = path.encode() if isinstance(path, str) else path
    return parse_target(method, raw, query, base_path=base, separator=sep, procedures={"post.create"})


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/trpc/post.create", b"", Calls(("post.create",), False)),
        ("/trpc/post.create/", b"", Calls(("post.create",), False)),
        ("/trpc/a.b,c", b"batch=1", Calls(("a.b", "c"), True)),
        ("/trpc/a%2Cb%2Ec", b"batch=1", Calls(("a", "b.c"), True)),
        ("/trpc/a,b", b"", Calls(("a,b",), False)),
        ("/trpc/a,,b,", b"batch=1", Calls(("a", "", "b", ""), True)),
        ("/trpc/weird-n%C3%A4me", b"", Calls(("weird-näme",), False)),
        ("/trpc/a", b"tenant=7&input=%7B%22a%22%3A%221+2%2B%22%7D", Calls(("a",), False, '{"a":"1 2+"}')),
        ("/trpc/a", b"input=1&input=2&Input=3", Calls(("a",), False, "1")),
        ("/trpc/a", b"batch=&input=", Calls(("a",), False, "")),
        ("/trpc/a", b"b%61tch=1", Calls(("a",), True)),
        ("/trpc/a", b"Batch=1", Calls(("a",), False)),
    ],
)
def test_reads_what_every_adapter_reads_alike(path: str, query: bytes, expected: Calls) -> None:
    assert parse(path, query) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/trpc//post.create",
        "//trpc/post.create",
        "//host/trpc/post.create",
        "/trpc/a/b/post.create",
        "/trpc/a%2Fpost.create",
        "/trpc/%5Cpost.create",
        "/trpc/..",
        "/trpc/%2e",
        "/trpc/./post.create",
        "/x/../trpc/post.create",
        "/x/%2e%2e/trpc/post.create",
        "/TRPC/post.create",
        "/%74rpc/post.create",
        "/trpc%2Fpost.create",
        "/trpc\\post.create",
        "/trpc/a%",
        "/trpc/%E0%A4%A",
        "/trpc/%FF",
        "/trpc/a%00",
        "/trpc/a#b",
        "/trpc/näme",
        "trpc/post.create",
        "http://api.example/trpc/post.create",
    ],
)
def test_refuses_what_adapters_read_differently_and_says_why(path: str) -> None:
    refused = parse(path)

    assert isinstance(refused, Refused)
    assert refused.reason


@pytest.mark.parametrize("query", [b"batch=true", b"batch=0", b"batch=1&batch=2", b"batch[]=1", b"batch=1&input=#"])
def test_refuses_a_query_that_is_a_batch_for_some_servers_only(query: bytes) -> None:
    assert isinstance(parse("/trpc/a,b", query), Refused)


@pytest.mark.parametrize(
    "path", ["/abcd/post.create", "/trpcpost.create", "/abcd/hello,post.create", "/abcd/post%2Ecreate"]
)
def test_refuses_a_procedure_reachable_by_cutting_the_base_path_off_by_length(path: str) -> None:
    assert isinstance(parse(path), Refused)


@pytest.mark.parametrize("path", ["/", "/trpc", "/trpc/", "/health", "/assets/app.js", "/abcd/other", "/trpc-panel/x"])
def test_what_calls_no_procedure_passes(path: str) -> None:
    assert parse(path) == NotCalls()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_methods_that_never_run_a_procedure_pass(method: str) -> None:
    assert parse("/trpc/post.create", method=method) == NotCalls()


def test_a_server_at_the_root_has_other_routes_beside_it() -> None:
    assert parse("/post.create", base="/") == Calls(("post.create",), False)
    assert parse("/assets/app.js", base="") == NotCalls()
    assert isinstance(parse("/x/post.create", base="/"), Refused)


def test_a_path_separator_reads_as_dots() -> None:
    assert parse("/trpc/post~comment~add,a.b", b"batch=1", sep="~") == Calls(("post.comment.add", "a.b"), True)


def test_a_repr_holds_no_input() -> None:
    assert "secret" not in repr(parse("/trpc/a", b"input=%22secret%22"))


@given(st.sampled_from(["GET", "POST", "PUT"]), st.binary(max_size=40), st.binary(max_size=40), st.booleans())
def test_any_target_has_a_reading(method: str, tail: bytes, query: bytes, mounted: bool) -> None:
    for path in (tail, b"/" + tail, b"/trpc/" + tail):
        target = parse_target(method, path, query, base_path="/trpc" if mounted else "")
        assert isinstance(target, Calls | NotCalls | Refused)


@given(st.lists(st.from_regex(r"[a-z]+(\.[a-zA-Z]+){0,2}", fullmatch=True), min_size=1, max_size=5))
def test_what_a_client_joins_comes_apart_again(names: list[str]) -> None:
    assert parse("/trpc/" + ",".join(names), b"batch=1") == Calls(tuple(names), True)
