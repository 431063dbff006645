"""The pool and its connections in front of legacies that misbehave in every way that was thought of."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.framing import CHUNKED, Pairs, RequestHead
from proxy.upstream import BadUrl, Limits, Lost, NotSent, Upstream
from tests.support.scripted import Script, Visit, scripted, until

HOST = (b"Host", b"a")
GET = RequestHead(b"GET", b"/", [HOST])
POST = RequestHead(b"POST", b"/", [HOST])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def saying(*answers: bytes, then_reset: bool = False) -> Script:
    """Answer the requests of each connection with these, then close."""

    async def script(visit: Visit) -> None:
        for answer in answers:
            if not await visit.request():
                return
            await visit.say(answer)
        if then_reset:
            visit.reset()

    return script


async def always_ok(visit: Visit) -> None:
    while await visit.request():
        await visit.say(OK)


async def read(upstream: Upstream, head: RequestHead = GET, body: bytes = b"") -> bytes:
    return await (await upstream.request(head, body)).read()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def lost(upstream: Upstream, head: RequestHead = POST, body: bytes = b"x") -> str:
    """The code of the loss that a request ends in, wherever it shows."""
    with pytest.raises(Lost) as error:
        await read(upstream, head, body)
    return error.value.code


# --- keeping connections ------------------------------------------------------------------------------------------


async def test_one_connection_carries_one_request_after_the_other() -> None:
    async with scripted(always_ok) as legacy:
        upstream = Upstream(legacy.url)
        assert [await read(upstream, head) for head in (GET, POST, GET)] == [b"ok"] * 3
        assert len(legacy.visits) == 1
        await upstream.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=0\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        OK + b"HTTP/1.1 200",
        OK + b"garbage",
    ],
)
async def test_a_connection_that_is_not_surely_clean_is_not_used_again(answer: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer if visit.number == 0 else OK)
        await visit.reader.read()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        assert await read(upstream, POST, b"1") == b"ok"
        assert await read(upstream, POST, b"2") == b"ok"
        assert len(legacy.visits) == 2
        await upstream.close()


async def test_a_mutation_goes_round_a_connection_whose_end_has_reached_the_kernel_only() -> None:
    async with scripted(always_ok) as legacy:
        upstream = Upstream(legacy.url)
        await read(upstream)
        legacy.visits[0].writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        # Nothing has run since: the loop does not know yet that the connection has ended.
        assert await read(upstream, POST, b"x") == b"ok"
        assert len(legacy.visits) == 2
        await upstream.close()


async def test_an_idle_connection_that_says_something_unasked_is_closed() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        if visit.number == 0:
            await visit.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        assert not await visit.reader.read()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        assert await read(upstream) == b"ok"
        await until(lambda: not upstream.open_connections)
        assert await read(upstream, POST, b"x") == b"ok"
        await upstream.close()


async def dies_second_time(visit: Visit) -> None:
    """The first connection breaks when it is used again; later ones are good."""
    await visit.request()
    await visit.say(OK)
    if visit.number == 0:
        await visit.request()
        visit.reset()
    else:
        await always_ok(visit)


async def test_a_safe_request_is_sent_again_when_a_used_connection_dies_under_it() -> None:
    async with scripted(dies_second_time) as legacy:
        upstream = Upstream(legacy.url)
        assert [await read(upstream), await read(upstream)] == [b"ok", b"ok"]
        assert len(legacy.visits) == 2
        await upstream.close()


async def test_a_mutation_is_never_sent_again() -> None:
    async with scripted(dies_second_time) as legacy:
        upstream = Upstream(legacy.url)
        await read(upstream)
        assert await lost(upstream) in ("reset", "closed_early")
        assert len(legacy.visits) == 1
        await upstream.close()


async def test_a_safe_request_is_sent_twice_at_most() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        if visit.number == 0:
            await visit.say(OK)
            await visit.request()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        await read(upstream)
        assert await lost(upstream, GET, b"") == "closed_early"
        assert len(legacy.visits) == 2
        await upstream.close()


async def test_a_safe_request_is_not_sent_again_once_its_answer_began() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(OK)
        await visit.request()
        await visit.say(b"HTTP/1.1 2")

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        await read(upstream)
        assert await lost(upstream, GET, b"") == "reset"
        assert len(legacy.visits) == 1
        await upstream.close()


# --- answers cut off ----------------------------------------------------------------------------------------------

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_cut_off_after_any_byte_is_lost_and_never_short(answer: bytes, reset: bool) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(answer[: visit.number])
        if reset:
            visit.reset()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        for _ in range(len(answer)):
            assert await lost(upstream) in ("reset", "closed_early", "truncated")
        assert len(legacy.visits) == len(answer)
        await upstream.close()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_that_comes_byte_by_byte_is_the_same(answer: bytes) -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        for byte in answer:
            await visit.say(bytes([byte]))
            await asyncio.sleep(0)
        await visit.reader.read()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        got = await upstream.request(POST, b"x")
        assert (got.status, got.reason, await got.read()) == (200, b"OK", b"hello")
        await upstream.close()


async def test_an_answer_without_a_length_ends_when_the_legacy_closes() -> None:
    async with scripted(saying(b"HTTP/1.1 200 OK\r\n\r\nhello")) as legacy:
        upstream = Upstream(legacy.url)
        assert await read(upstream) == b"hello"
        await upstream.close()


async def test_an_answer_without_a_length_that_is_reset_is_truncated() -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await visit.reader.readexactly(1)
        visit.reset()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        more = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            await more.wait()
            yield b"x"

        answer = await upstream.request(POST, body())
        more.set()
        with pytest.raises(Lost) as error:
            await answer.read()
        assert error.value.code == "truncated"
        await upstream.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_an_answer_that_cannot_be_read_for_certain_is_lost(answer: bytes) -> None:
    async with scripted(saying(answer)) as legacy:
        upstream = Upstream(legacy.url)
        assert await lost(upstream) == "bad_answer"
        await upstream.close()


async def test_chunked_said_twice_is_read() -> None:
    twice = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with scripted(saying(twice)) as legacy:
        upstream = Upstream(legacy.url)
        answer = await upstream.request(GET)
        assert (answer.length, await answer.read()) == (CHUNKED, b"ok")
        await upstream.close()


async def test_heads_letter_case_reason_interim_answers_and_trailers_are_kept() -> None:
    said = (
        b"HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 207 Some Of Each\r\nX-a: 1\r\nx-A: 2\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: x-b\r\nX-B: 3\r\n\r\n"
        b"2\r\nok\r\n0\r\nX-Sum: 9\r\nHost: b\r\n\r\n"
    )
    interim: list[tuple[int, bytes, Pairs]] = []
    async with scripted(saying(said)) as legacy:
        upstream = Upstream(legacy.url)
        answer = await upstream.request(GET, informational=lambda *told: interim.append(told))
        assert (answer.status, answer.reason) == (207, b"Some Of Each")
        assert answer.headers == [(b"X-a", b"1"), (b"x-A", b"2")]
        assert await answer.read() == b"ok"
        assert answer.trailers == [(b"X-Sum", b"9")]
        await upstream.close()
    assert interim == [(103, b"Early Hints", [(b"LINK", b"</a>")])]


async def test_an_answer_to_head_has_no_body_whatever_it_says() -> None:
    head = RequestHead(b"HEAD", b"/", [HOST])
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with scripted(saying(said, said, OK)) as legacy:
        upstream = Upstream(legacy.url)
        assert [await read(upstream, head), await read(upstream, head), await read(upstream)] == [b"", b"", b"ok"]
        assert len(legacy.visits) == 1
        await upstream.close()


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_answers_without_a_body_leave_the_connection_good(status: bytes) -> None:
    async with scripted(saying(b"HTTP/1.1 " + status + b"\r\n\r\n", OK)) as legacy:
        upstream = Upstream(legacy.url)
        assert [await read(upstream), await read(upstream)] == [b"", b"ok"]
        assert len(legacy.visits) == 1
        await upstream.close()


# --- uploads ------------------------------------------------------------------------------------------------------


async def test_bodies_are_framed_by_what_is_known_of_them() -> None:
    seen: list[bytes] = []

    async def script(visit: Visit) -> None:
        while request := await visit.request():
            seen.append(request)
            await visit.say(OK)

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        declared = RequestHead(b"POST", b"/", [HOST, (b"content-LENGTH", b"3")], 3)
        requests: Sequence[tuple[RequestHead, bytes | AsyncIterator[bytes]]] = [
            (POST, b""),
            (POST, b"abc"),
            (declared, b"abc"),
            (declared, pieces(b"a", b"", b"bc")),
            (POST, pieces(b"a", b"", b"bc")),
            (POST, pieces()),
        ]
        for head, body in requests:
            await (await upstream.request(head, body)).read()
        assert len(legacy.visits) == 1
        await upstream.close()
    line = b"POST / HTTP/1.1\r\nHost: a\r\n"
    assert seen == [
        line + b"\r\n",
        line + b"Content-Length: 3\r\n\r\nabc",
        line + b"content-LENGTH: 3\r\n\r\nabc",
        line + b"content-LENGTH: 3\r\n\r\nabc",
        line + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        line + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]


@pytest.mark.parametrize("parts", [(b"ab",), (b"ab", b"cd")])
async def test_a_body_that_belies_its_length_is_cut_so_that_the_legacy_sees_no_whole_request(
    parts: tuple[bytes, ...],
) -> None:
    async def script(visit: Visit) -> None:
        head = await visit.reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 3" in head
        assert await visit.reader.read() == b"ab"

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        head = RequestHead(b"POST", b"/", [HOST, (b"Content-Length", b"3")], 3)
        with pytest.raises(Lost) as error:
            await upstream.request(head, pieces(*parts))
        assert error.value.code == "request_cut"
        await upstream.close()


async def test_an_error_in_the_body_is_the_cause_of_the_loss() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise RuntimeError("no more")

    async with scripted(saying(OK)) as legacy:
        upstream = Upstream(legacy.url)
        with pytest.raises(Lost) as error:
            await upstream.request(POST, broken())
        assert isinstance(error.value.__cause__, RuntimeError)
        await upstream.close()


async def test_an_early_answer_ends_the_upload_and_the_connection() -> None:
    stopped = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            stopped.set()

    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig")
        while await visit.reader.read(65536):
            pass

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        answer = await upstream.request(POST, endless())
        assert (answer.status, await answer.read()) == (413, b"big")
        await stopped.wait()
        await until(lambda: not upstream.open_connections)
        await upstream.close()


async def test_an_answer_may_stream_while_the_request_does() -> None:
    async def script(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (piece := await visit.reader.readuntil(b"\r\n")) != b"0\r\n":
            data = await visit.reader.readexactly(int(piece, 16) + 2)
            await visit.say(piece + data)
        await visit.say(b"0\r\n\r\n")
        await visit.reader.read()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        turn: asyncio.Queue[bytes] = asyncio.Queue()

        async def body() -> AsyncIterator[bytes]:
            while piece := await turn.get():
                yield piece

        answer = await upstream.request(POST, body())
        for piece in (b"one", b"two"):
            turn.put_nowait(piece)
            assert await anext(answer) == piece
        turn.put_nowait(b"")
        assert await answer.read() == b""
        await until(lambda: not upstream.tasks)
        await upstream.close()


# --- time and room ------------------------------------------------------------------------------------------------


async def silent(visit: Visit) -> None:
    await visit.request()
    await visit.reader.read()


async def test_a_legacy_that_does_not_answer_is_lost() -> None:
    async with scripted(silent) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(response_timeout=0.02))
        assert await lost(upstream) == "response_timeout"
        await upstream.close()


async def test_a_body_that_pauses_for_too_long_is_lost() -> None:
    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await visit.reader.read()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(body_timeout=0.02))
        assert await lost(upstream) == "body_timeout"
        await upstream.close()


async def test_a_legacy_that_takes_no_upload_is_lost() -> None:
    async def script(visit: Visit) -> None:
        visit.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads
        await asyncio.Event().wait()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(write_timeout=0.02))
        with pytest.raises(Lost) as error:
            await upstream.request(POST, endless())
        assert error.value.code == "write_timeout"
        await upstream.close()


async def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        upstream = Upstream(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(NotSent) as error:
            await upstream.request(POST, b"x")
        assert (error.value.code, error.value.status) == ("connect_refused", 502)
        await upstream.close()


async def test_a_legacy_that_does_not_accept_in_time_got_nothing() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            upstream = Upstream(f"http://127.0.0.1:{deaf.getsockname()[1]}", limits=Limits(connect_timeout=0.05))
            with pytest.raises(NotSent) as error:
                await upstream.request(POST, b"x")
            assert (error.value.code, error.value.status) == ("connect_timeout", 504)
            await upstream.close()


async def test_requests_wait_for_a_connection_in_their_order() -> None:
    seen: list[bytes] = []

    async def script(visit: Visit) -> None:
        while request := await visit.request():
            seen.append(request[-1:])
            await visit.say(OK)

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(connections=1))
        await asyncio.gather(*[read(upstream, POST, b"%d" % number) for number in range(9)])
        assert seen == [b"%d" % number for number in range(9)]
        assert len(legacy.visits) == 1
        await upstream.close()


async def test_too_many_waiting_is_told_at_once_and_waiting_too_long_too() -> None:
    async with scripted(silent) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(connections=1, waiting=1, queue_timeout=0.02))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(upstream.request(GET))
            await until(lambda: legacy.visits)
            late = group.create_task(lost_or_not_sent(upstream))
            await until(lambda: upstream.waiting)
            with pytest.raises(NotSent) as error:
                await upstream.request(POST, b"x")
            assert (error.value.code, error.value.status) == ("queue_full", 503)
            assert await late == "queue_timeout"
            running.cancel()
        await upstream.close()


async def lost_or_not_sent(upstream: Upstream) -> str:
    with pytest.raises(NotSent) as error:
        await upstream.request(POST, b"x")
    return error.value.code


async def test_a_place_that_came_free_for_somebody_who_left_goes_to_the_next() -> None:
    go = asyncio.Event()

    async def script(visit: Visit) -> None:
        while await visit.request():
            await go.wait()
            await visit.say(OK)

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url, limits=Limits(connections=1))
        async with asyncio.TaskGroup() as group:
            group.create_task(read(upstream))
            await until(lambda: legacy.visits)
            leaving = group.create_task(read(upstream))
            staying = group.create_task(read(upstream))
            await until(lambda: upstream.waiting == 2)
            leaving.cancel()
            go.set()
            assert await staying == b"ok"
        await upstream.close()


async def test_giving_a_request_up_closes_its_connection() -> None:
    gone = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        try:
            await visit.reader.read()
        finally:
            gone.set()

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        async with asyncio.TaskGroup() as group:
            request = group.create_task(upstream.request(GET))
            await until(lambda: legacy.visits)
            request.cancel()
        await gone.wait()
        await upstream.close()


async def test_closing_ends_what_runs_and_refuses_what_comes() -> None:
    async with scripted(silent) as legacy:
        upstream = Upstream(legacy.url)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(lost(upstream))
            await until(lambda: legacy.visits)
            await upstream.close()
            assert await running == "given_up"
        with pytest.raises(NotSent) as error:
            await upstream.request(GET)
        assert error.value.code == "closed"


async def test_a_reader_who_does_not_keep_up_makes_the_legacy_wait() -> None:
    written = 0

    async def script(visit: Visit) -> None:
        nonlocal written
        await visit.request()
        await visit.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            await visit.say(b"x" * (1 << 20))
            written += 1

    async with scripted(script) as legacy:
        upstream = Upstream(legacy.url)
        answer = await upstream.request(GET)
        await until(lambda: answer.paused)
        assert written < 64
        assert len(await answer.read()) == 64 << 20
        await upstream.close()


# --- other roads --------------------------------------------------------------------------------------------------


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with scripted(always_ok, unix=tmp_path / "legacy.sock") as legacy:
        upstream = Upstream(legacy.url)
        assert [await read(upstream), await read(upstream, POST, b"x")] == [b"ok", b"ok"]
        assert len(legacy.visits) == 1
        await upstream.close()


async def test_a_unix_socket_that_is_not_there_got_nothing(tmp_path: Path) -> None:
    upstream = Upstream(f"unix://{tmp_path}/none.sock")
    with pytest.raises(NotSent) as error:
        await upstream.request(POST, b"x")
    assert error.value.code == "connect_failed"


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and the file of the authority to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, private = folder / "ca.pem", folder / "key.pem"
    authority.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, private)
    return context, authority


async def test_tls_with_an_authority_of_ones_own(tmp_path: Path) -> None:
    context, authority = certificate(tmp_path)
    async with scripted(always_ok, tls=context) as legacy:
        upstream = Upstream(legacy.url, ca_file=authority)
        assert [await read(upstream), await read(upstream, POST, b"x")] == [b"ok", b"ok"]
        assert len(legacy.visits) == 1
        await upstream.close()


async def test_a_certificate_that_nobody_vouches_for_stops_everything(tmp_path: Path) -> None:
    context, _ = certificate(tmp_path)
    async with scripted(always_ok, tls=context) as legacy:
        upstream = Upstream(legacy.url)
        with pytest.raises(NotSent) as error:
            await upstream.request(POST, b"x")
        assert error.value.code == "tls_failed"
        await upstream.close()


@pytest.mark.parametrize(
    "url",
    ["", "localhost:3000", "ftp://a", "http://", "http://a/trpc", "http://a:x", "unix://x", "http://u@a", "http://a?x"],
)
def test_a_url_that_names_no_place_is_told(url: str) -> None:
    with pytest.raises(BadUrl, match="URL"):
        Upstream(url)
