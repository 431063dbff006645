"""Two ways to the same server, directly and through a proxy, and what makes their answers the same.

A proxy may re-frame a message, so headers that belong to one connection are left out; everything else has to be equal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from proxy.trpc.transformers import Transformer
from shadow import json
from tests.support.node_client import Call, Client, NodeClient, Run
from tests.support.raw_http import HeaderPairs, RawAnswer, RawRequest, exchange

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
VOLATILE = frozenset({"date"})


@dataclass(frozen=True, slots=True)
class Ways:
    """The addresses of one API, each with its base path."""

    direct: str
    proxied: str


def end_to_end(headers: HeaderPairs) -> HeaderPairs:
    """The headers that a proxy must not touch; repeated ones keep their order."""
    kept = [(name.lower(), value) for name, value in headers if name.lower() not in HOP_BY_HOP | VOLATILE]
    return tuple(sorted(kept, key=lambda pair: pair[0]))


def comparable_answer(answer: RawAnswer) -> RawAnswer:
    """The answer without what belongs to its connection."""
    return replace(answer, headers=end_to_end(answer.headers))


def comparable_run(run: Run, base: str) -> tuple[object, ...]:
    """What the stock client saw, without the address that it was seen at; requests of one tick go out in any order."""
    exchanges = sorted(
        (one.method, one.url.removeprefix(base), one.status, end_to_end(one.headers)) for one in run.http
    )
    return tuple(result.raw for result in run.results), exchanges


async def same_for_a_client(node: NodeClient, ways: Ways, client: Client, *calls: Call) -> Run:
    """Make the calls both ways; asserts that the client cannot tell the difference, and returns the direct run."""
    direct = await node.run(replace(client, url=ways.direct), *calls)
    proxied = await node.run(replace(client, url=ways.proxied), *calls)
    assert comparable_run(proxied, ways.proxied) == comparable_run(direct, ways.direct)
    return direct


async def same_bytes(ways: Ways, request: RawRequest) -> RawAnswer:
    """Send the request both ways; asserts that the answers are the same bytes, and returns the direct one.

    `request.target` is taken as it is, so it starts with the base path.
    """
    direct = await exchange(ways.direct, request)
    proxied = await exchange(ways.proxied, request)
    assert comparable_answer(proxied) == comparable_answer(direct)
    return direct


async def same_bytes_or_refused(ways: Ways, request: RawRequest, transformer: Transformer) -> bool:
    """Send a request that a proxy may refuse to understand; tells whether it did.

    If it did, it said so in the error shape of the API; if not, the answers are the same bytes.
    """
    direct = await exchange(ways.direct, request)
    proxied = await exchange(ways.proxied, request)
    if comparable_answer(proxied) == comparable_answer(direct):
        return False
    envelope = json.decode(proxied.body)
    error = transformer.plain(envelope["error"])
    assert isinstance(error, dict)
    assert (proxied.status, error["code"], error["data"]["code"]) == (400, -32600, "BAD_REQUEST"), proxied
    return True


def base_path(url: str) -> bytes:
    """The path of the API's address, without a slash at its end."""
    return urlsplit(url).path.rstrip("/").encode()
