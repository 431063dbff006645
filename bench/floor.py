"""The least that forwarding, and a dual write, can cost in Python: `python -m bench.floor`.

Three forwarders that know nothing of procedures, keys, contracts, streams, or clients that misbehave. What each costs
on an interpreter and a loop is what no proxy there can undercut that does what it does:

* `bytes` reads nothing: whatever comes from one side is written to the other;
* `heads` parses requests and answers, keeps a pool of connections, and writes the heads anew;
* `log` makes, besides, an intent durable before it forwards and an event before it answers, in the project's own log:
  the same event each time, decided by nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import httptools
import uvloop
from rich.console import Console
from rich.table import Table

from bench.load import available, pinned
from bench.plan import OTHERS_CPU, SERVER_CPU
from bench.processor import measured, scratch, worker
from bench.servers import FAST_LEGACY, MIRROR, PROXY, ROOT, nginx, nginx_available, stopped
from changeover.clock import clock
from changeover.serve import collect_less_often
from shadow.events import Draft, Effect, EntityKey
from shadow.ids import new_id, new_name
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.log import Log

Headers = list[tuple[bytes, bytes]]

ENTITIES = 10_000
FIELDS = {"sessionId": "session-00000001-7b1c-4f4e-9d53-0123456789ab", "title": "The title after change 12345"}


class Pipe(asyncio.Protocol):
    """One end of `bytes`; what arrives here leaves at the other."""

    def __init__(self) -> None:
        self.other: Pipe | None = None
        self.early: list[bytes] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on."""
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other end too."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Message(asyncio.Protocol):
    """A connection of `heads` and `log` that reads one message after the other."""

    parser: Any

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget the message before."""
        self.first = b""
        self.headers: Headers = []
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header in."""
        self.headers.append((name, value))

    def on_body(self, piece: bytes) -> None:
        """Take in a piece of the body."""
        self.body += piece

    def wire(self, line: bytes) -> bytes:
        """Return the message as it goes on."""
        return b"\r\n".join([line, *map(b": ".join, self.headers), b"\r\n" + self.body])


class Pool:
    """The connections to the legacy that are idle, and how to open another."""

    def __init__(self, legacy: int) -> None:
        self._legacy = legacy
        self._running: set[asyncio.Task[None]] = set()
        self.idle: list[Server] = []

    def send(self, wire: bytes, answered: Callable[[bytes], None]) -> None:
        """Send a request; `answered` gets the answer."""
        if self.idle:
            self.idle.pop().send(wire, answered)
            return
        task = asyncio.get_running_loop().create_task(self._opened(wire, answered))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _opened(self, wire: bytes, answered: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_connection(lambda: Server(self), "127.0.0.1", self._legacy)
        server.send(wire, answered)


class Server(Message):
    """A connection to the legacy."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.parser = httptools.HttpResponseParser(self)
        self._pool = pool
        self._answered: Callable[[bytes], None] | None = None

    def send(self, wire: bytes, answered: Callable[[bytes], None]) -> None:
        """Send a request."""
        self.begin()
        self._answered = answered
        self.transport.write(wire)

    def on_status(self, reason: bytes) -> None:
        """Take the reason in."""
        self.first = reason

    def on_message_complete(self) -> None:
        """Tell of the answer."""
        assert self._answered is not None
        self._pool.idle.append(self)
        self._answered(self.wire(b"HTTP/1.1 %d %b" % (self.parser.get_status_code(), self.first)))


class Client(Message):
    """A client of `heads`."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.parser = httptools.HttpRequestParser(self)
        self.pool = pool

    def on_url(self, url: bytes) -> None:
        """Take the target in."""
        self.first = url

    def on_message_complete(self) -> None:
        """Forward the request."""
        wire = self.wire(b"%b %b HTTP/1.1" % (self.parser.get_method(), self.first))
        self.begin()
        self.forward(wire)

    def forward(self, wire: bytes) -> None:
        """Send a request, and its answer when it is here."""
        self.pool.send(wire, self.answer)

    def answer(self, wire: bytes) -> None:
        """Send an answer."""
        if not self.transport.is_closing():
            self.transport.write(wire)


class Durable(Client):
    """A client of `log`; also what the log tells that an intent, and then its outcome, is durable."""

    def __init__(self, pool: Pool, log: Log, entities: Iterator[EntityKey]) -> None:
        super().__init__(pool)
        self._log = log
        self._entities = entities
        self._entity = next(entities)
        self._request = b""
        self._answer: bytes | None = None
        self._intent = 0

    def forward(self, wire: bytes) -> None:
        """Make an intent durable first."""
        self._request = wire
        self._entity = next(self._entities)
        self._log.begin_then([_intent(self._entity, clock())], self)

    def cancelled(self) -> bool:
        """Tell that it wants to hear of everything."""
        return False

    def set_result(self, result: Any) -> None:
        """Forward what is intended, or answer what is settled."""
        if self._answer is None:
            self._intent = result[0]
            self.pool.send(self._request, self.settle)
        else:
            answer, self._answer = self._answer, None
            self.answer(answer)

    def set_exception(self, error: BaseException) -> None:
        """Give up."""
        raise error

    def settle(self, wire: bytes) -> None:
        """Make the outcome durable before the answer goes out."""
        self._answer = wire
        self._log.settle_then([_settlement(self._intent, self._entity, clock())], self)


def _entities() -> Iterator[EntityKey]:
    """Yield entities for ever, in no order that an index would like."""
    names = [f"session-{number:08d}-7b1c-4f4e-9d53-0123456789ab" for number in range(ENTITIES)]
    random.Random(1).shuffle(names)
    return itertools.cycle([EntityKey("session", name) for name in names])


def _intent(entity: EntityKey, now: int) -> NewIntent:
    return NewIntent(new_name(), 0, "session.updateTitle", "sessions", 1, entity, FIELDS, None, now, now + 30_000)


def _settlement(intent: int, entity: EntityKey, now: int) -> Settlement:
    draft = Draft(
        id=new_id(now),
        channel=f"session:{entity.key}",
        type="session-title-updated",
        time=now,
        data=FIELDS,
        entity=entity,
        effect=Effect.PATCH,
        change={"title": FIELDS["title"]},
        cause=f"intent:{intent}",
    )
    return Settlement(intent, Outcome.APPLIED, now, (draft,))


async def forward(kind: str, legacy: int, folder: Path) -> None:
    """Forward for ever; prints the port."""
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()
    pool = Pool(legacy)
    entities = _entities()
    log = Log.open(f"sqlite:///{folder / 'log.db'}") if kind == "log" else None

    async def joined(client: Pipe) -> None:
        _, server = await loop.create_connection(Pipe, "127.0.0.1", legacy)
        client.other, server.other = server, client
        for data in client.early:
            client.data_received(data)

    class PipeClient(Pipe):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(joined(self))
            running.add(task)
            task.add_done_callback(running.discard)

    def client() -> asyncio.Protocol:
        if kind == "bytes":
            return PipeClient()
        if log is None:
            return Client(pool)
        return Durable(pool, log, entities)

    server = await loop.create_server(client, "127.0.0.1", 0, backlog=2048)
    collect_less_often()
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


LOADS = (("bytes", "query", 32), ("heads", "query", 32), ("log", "rename", 32), ("log", "rename", 128))


async def measure(seconds: int, table: Table) -> None:
    """Run each, beside nginx, and say what an answer through it costs."""
    with scratch() as folder:
        async with (
            nginx(FAST_LEGACY, folder / "legacy", cpu=OTHERS_CPU) as legacy,
            nginx(PROXY, folder / "proxy", cpu=SERVER_CPU, legacy=legacy) as proxy,
            nginx(MIRROR, folder / "mirror", cpu=SERVER_CPU, legacy=legacy, sink=legacy) as mirror,
        ):
            passing, _ = await measured(
                proxy, await worker(folder / "proxy"), mode="query", connections=32, seconds=seconds
            )
            for kind, mode, connections in LOADS:
                theirs = passing
                if mode == "rename":
                    found = measured(
                        mirror, await worker(folder / "mirror"), mode=mode, connections=connections, seconds=seconds
                    )
                    theirs = (await found)[0]
                place = folder / f"{kind}-{connections}"
                place.mkdir()
                command = [*pinned(SERVER_CPU), sys.executable, "-m", "bench.floor", "--forward", str(legacy)]
                process = await asyncio.create_subprocess_exec(
                    *command, "--kind", kind, "--folder", str(place), stdout=PIPE, cwd=ROOT
                )
                try:
                    assert process.stdout is not None
                    port = int(await process.stdout.readline())
                    rate, parts = await measured(port, process.pid, mode=mode, connections=connections, seconds=seconds)
                finally:
                    await stopped(process)
                against = "nginx proxy_pass" if mode == "query" else "nginx mirror"
                spent = " + ".join(f"{part.user:.1f} + {part.kernel:.1f}" for part in parts)
                total = sum(part.user + part.kernel for part in parts)
                table.add_row(
                    kind, str(connections), f"{rate:,.0f}", spent, f"{total:.0f}", f"{rate / theirs:.2f} × {against}"
                )


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(
        prog="bench.floor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=4, help="how long each load lasts")
    parser.add_argument("--forward", type=int, metavar="PORT", help="only forward, to this port")
    parser.add_argument("--kind", choices=("bytes", "heads", "log"), default="bytes", help="what to forward with")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the log is kept")
    given = parser.parse_args()
    if given.forward:
        uvloop.run(forward(given.kind, given.forward, given.folder))
    elif not (available() and nginx_available()):
        print("not measured: nginx and wrk are not installed")
    else:
        table = Table("forwarder", "connections", "answers/s", "user + kernel µs, by thread", "µs", "rate")
        asyncio.run(measure(given.seconds, table))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
