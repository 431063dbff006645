"""A POSTed query is told from a mutation by the contract, by a GET that succeeded, or by a PUT that runs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from shadow.journal import Outcome
from tests.support.mirrored import NOTES, mirrored
from tests.support.raw_http import RawRequest, exchange
from tests.support.scripted import Visit, scripted

JSON = (("content-type", "application/json"), ("authorization", "Bearer t"))
OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"result":{}}'


def refusal(kind: str) -> bytes:
    body = (
        b'{"error":{"message":"Unsupported PUT-request to %b procedure at path \\"a.b\\"","code":-32005,'
        b'"data":{"code":"METHOD_NOT_SUPPORTED","httpStatus":405,"path":"a.b"}}}' % kind.encode()
    )
    return b"HTTP/1.1 405 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


class Legacy:
    """Answers every call, and a PUT as tRPC 11 does for a procedure of this kind."""

    def __init__(self, kind: str = "query") -> None:
        self.kind = kind
        self.asked: list[bytes] = []

    async def __call__(self, visit: Visit) -> None:
        while request := await visit.request():
            self.asked.append(request)
            await visit.say(refusal(self.kind) if request.startswith(b"PUT ") else OK)

    def targets(self) -> list[bytes]:
        return [b" ".join(request.split(b" ")[:2]) for request in self.asked]


@pytest.mark.parametrize(("kind", "outcome"), [("query", Outcome.NOT_APPLIED), ("mutation", Outcome.APPLIED)])
async def test_an_unknown_procedure_is_asked_for_once_and_only_after_it_answered(
    tmp_path: Path, kind: str, outcome: Outcome
) -> None:
    legacy = Legacy(kind)
    post = RawRequest("POST", b"/trpc/a.b", JSON, b"1")
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        for _ in range(3):
            assert (await exchange(port.url, post)).body == b'{"result":{}}'
        assert legacy.targets() == [b"POST /trpc/a.b", b"PUT /trpc/a.b", b"POST /trpc/a.b", b"POST /trpc/a.b"]
        assert b"authorization: Bearer t" in legacy.asked[1]
        assert legacy.asked[1].endswith(b"\r\n\r\n{}")
        known = [] if kind == "query" else [outcome, outcome]
        assert [intent.outcome for intent in port.intents()] == [outcome, *known]


async def test_what_a_get_has_read_is_no_mutation(tmp_path: Path) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await exchange(port.url, RawRequest("GET", b"/trpc/a.b,c?batch=1&input=%7B%7D"))
        await exchange(port.url, RawRequest("POST", b"/trpc/c", JSON, b"1"))
        await exchange(port.url, RawRequest("POST", b"/trpc/a.b", JSON, b"1"))
        assert port.intents() == []
        assert not any(target.startswith(b"PUT") for target in legacy.targets())


async def test_what_the_contract_reads_by_is_no_mutation(tmp_path: Path) -> None:
    legacy = Legacy()
    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        await exchange(port.url, RawRequest("POST", b"/trpc/note.get", JSON, b"1"))
        assert (port.intents(), len(legacy.asked)) == ([], 1)


async def test_a_contract_may_forbid_to_ask(tmp_path: Path) -> None:
    legacy = Legacy()
    contract = NOTES.replace('base_path = "/trpc"', 'base_path = "/trpc"\nprobe = false')
    async with scripted(legacy) as server, mirrored(server.url, tmp_path, contract=contract) as port:
        await exchange(port.url, RawRequest("POST", b"/trpc/a.b", JSON, b"1"))
        assert legacy.targets() == [b"POST /trpc/a.b"]
        assert [intent.outcome for intent in port.intents()] == [Outcome.APPLIED]


async def test_an_answer_that_is_a_stream_of_events_is_a_subscriptions(tmp_path: Path) -> None:
    async def legacy(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")

    async with scripted(legacy) as server, mirrored(server.url, tmp_path) as port:
        assert (await exchange(port.url, RawRequest("POST", b"/trpc/a.b", JSON, b"1"))).body == b"data: 1\n\n"
        assert [(intent.outcome, intent.detail) for intent in port.intents()] == [(Outcome.NOT_APPLIED, "subscription")]
