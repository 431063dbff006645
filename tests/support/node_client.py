"""The real `@trpc/client`, driven from Python: one Node process for as many calls as a test run likes.

It belongs to no event loop, so that one process may serve a whole test session.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from shadow.json import Json
from tests.support.node import start_node, stop

SCRIPT = Path(__file__).with_name("client.mjs")

Link: TypeAlias = Literal[
    "httpLink", "httpBatchLink", "httpBatchStreamLink", "wsLink", "httpSubscriptionLink", "splitLink"
]
Transformer: TypeAlias = Literal["none", "superjson", "devalue"]


@dataclass(frozen=True, slots=True)
class Client:
    """Which stock client makes the calls; `url` is the API's address with its base path."""

    url: str
    link: Link = "httpBatchLink"
    version: Literal[10, 11] = 11
    transformer: Transformer = "none"
    headers: Mapping[str, str] = field(default_factory=dict)
    method_override: bool = False
    connection_params: Mapping[str, str] | None = None
    separator: str | None = None


class _Unset:
    def __repr__(self) -> str:
        return "NO_INPUT"


NO_INPUT = _Unset()


@dataclass(frozen=True, slots=True)
class Call:
    """One procedure call. `together` puts it into the same tick, so the same batch, as the call before it.

    `meta` is superjson's annotation of `input`, for dates and the like; `file` is a non-JSON input:
    `{"base64": …}` for bytes or `{"form": {name: text or {"name", "base64"}}}` for a form.
    A subscription ends after `take` items; `abort_after` milliseconds the caller gives up.
    """

    type: Literal["query", "mutation", "subscription"]
    path: str
    input: Json | _Unset = NO_INPUT
    together: bool = False
    take: int | None = None
    abort_after: int | None = None
    meta: Json = None
    file: Json = None

    def wire(self) -> dict[str, Json]:
        """The call as the driver reads it."""
        optional: dict[str, Json] = {
            "take": self.take,
            "abortAfter": self.abort_after,
            "meta": self.meta,
            "file": self.file,
        }
        wish: dict[str, Json] = {"type": self.type, "path": self.path, "together": self.together}
        if self.input is not NO_INPUT:
            wish["input"] = self.input
        return wish | {name: value for name, value in optional.items() if value is not None}


def query(path: str, input: Json | _Unset = NO_INPUT, **more: Any) -> Call:  # noqa: A002 - tRPC's own word
    return Call("query", path, input, **more)


def mutation(path: str, input: Json | _Unset = NO_INPUT, **more: Any) -> Call:  # noqa: A002 - tRPC's own word
    return Call("mutation", path, input, **more)


def subscription(path: str, input: Json | _Unset = NO_INPUT, **more: Any) -> Call:  # noqa: A002 - tRPC's own word
    return Call("subscription", path, input, **more)


@dataclass(frozen=True, slots=True)
class Failed:
    """The error that the client threw. `code` is tRPC's name for it, None when the answer was not tRPC's."""

    message: str
    code: str | None
    number: int | None
    data: Json
    status: int | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """What one call came to: `data` (with superjson's `meta`), or `error`.

    A subscription, or a mutation that streams, has `items` instead, and how it `ended`.
    """

    data: Json = None
    meta: Json = None
    error: Failed | None = None
    items: tuple[Json, ...] = ()
    ended: str | None = None
    raw: Json = None

    @property
    def undefined(self) -> bool:
        """Whether the call returned nothing at all, which is not the same as null."""
        return bool(self.meta == {"values": ["undefined"], "v": 1} or self.meta == {"values": ["undefined"]})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request as the client saw it; `headers` are the answer's."""

    method: str
    url: str
    status: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Run:
    """The results of a command, in the order of its calls, and the HTTP requests that they took."""

    results: tuple[Result, ...]
    http: tuple[Exchange, ...]


class NodeClientError(AssertionError):
    """The driver itself failed, or its process ended."""


_Line: TypeAlias = dict[str, Json]


class NodeClient:
    """A running driver. Commands may overlap: each is answered when its own calls are done."""

    def __init__(self, stderr: Path) -> None:
        self._stderr = stderr
        self._process = start_node(SCRIPT, stderr=stderr, stdin=True)
        self._ids = itertools.count(1)
        self._writing = threading.Lock()
        self._listeners: dict[int, Callable[[_Line], None]] = {}
        self._reader = threading.Thread(target=self._read, name="node-client", daemon=True)
        self._reader.start()

    async def run(self, client: Client, *calls: Call) -> Run:
        """Make the calls with one stock client; raises `NodeClientError` only when the driver itself fails."""
        reply = await self._ask(_command(client) | {"calls": [call.wire() for call in calls]})
        if "error" in reply:
            raise NodeClientError(f"{reply['error']}\n{self._stderr.read_text(errors='replace')}")
        exchanges = (
            Exchange(one["method"], one["url"], one["status"], tuple((name, value) for name, value in one["headers"]))
            for one in reply["http"]
        )
        return Run(tuple(_result(raw) for raw in reply["results"]), tuple(exchanges))

    async def call(self, client: Client, call: Call) -> Result:
        """Make one call."""
        return (await self.run(client, call)).results[0]

    @asynccontextmanager
    async def follow(self, client: Client, path: str, input: Json = None) -> AsyncIterator[AsyncIterator[Json]]:  # noqa: A002
        """A live subscription: entered once the server has said that it started; the iterator gives its items.

        The iterator ends when the server completes the subscription and raises `NodeClientError` when it fails.
        """
        loop = asyncio.get_running_loop()
        lines: asyncio.Queue[_Line] = asyncio.Queue()
        number = next(self._ids)
        self._listeners[number] = _on(loop, lines.put_nowait)
        self._send(_command(client) | {"id": number, "follow": {"path": path, "input": input}})
        try:
            first = await lines.get()
            if "started" not in first:
                lines.put_nowait(first)
            yield _items(lines)
        finally:
            if self._process.poll() is None:
                self._send({"stop": number})
            self._listeners.pop(number, None)

    def close(self) -> None:
        """End the driver."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._reader.join(timeout=5)
        stop(self._process)

    async def _ask(self, command: _Line) -> _Line:
        loop = asyncio.get_running_loop()
        reply: asyncio.Queue[_Line] = asyncio.Queue()
        number = next(self._ids)
        self._listeners[number] = _on(loop, reply.put_nowait)
        self._send(command | {"id": number})
        try:
            return await reply.get()
        finally:
            self._listeners.pop(number, None)

    def _send(self, command: _Line) -> None:
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = json.loads(raw)
            if listener := self._listeners.get(line["id"]):
                listener(line)
        for listener in list(self._listeners.values()):
            listener({"ended": "error", "error": "the driver has ended"})


def _on(loop: asyncio.AbstractEventLoop, deliver: Callable[[_Line], None]) -> Callable[[_Line], None]:
    """Deliver on the loop; a line for a loop that is closed already has nobody to hear it."""

    def listener(line: _Line) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, line)

    return listener


async def _items(lines: asyncio.Queue[_Line]) -> AsyncIterator[Json]:
    while True:
        line = await lines.get()
        if "item" in line:
            yield line["item"]["data"]
        elif line.get("ended") == "error":
            raise NodeClientError(f"the subscription failed: {line['error']}")
        elif "ended" in line:
            return


def _command(client: Client) -> _Line:
    command: _Line = {
        "url": client.url,
        "link": client.link,
        "version": client.version,
        "transformer": client.transformer,
        "headers": dict(client.headers),
        "methodOverride": client.method_override,
        "pathSeparator": client.separator,
    }
    return (
        command if client.connection_params is None else command | {"connectionParams": dict(client.connection_params)}
    )


def _result(raw: Json) -> Result:
    error = raw.get("error")
    return Result(
        data=raw.get("data"),
        meta=raw.get("meta"),
        error=None
        if error is None
        else Failed(error["message"], error["code"], error["number"], error["data"], error["status"], error["cause"]),
        items=tuple(item["data"] for item in raw.get("items", ())),
        ended=raw.get("ended"),
        raw=raw,
    )


@contextmanager
def running_node_client(directory: Path) -> Iterator[NodeClient]:
    """A driver that lives as long as the block; its stderr goes to a file in `directory`."""
    client = NodeClient(directory / "node-client.log")
    try:
        yield client
    finally:
        client.close()
