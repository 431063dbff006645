"""What kind of procedure a path names, where the contract does not say.

A POST may call a query (v11's method override), and nothing in the call or its answer tells it from a mutation. Three
things do: the contract, which names its reads; a GET that succeeded, because GET never runs a mutation; and a PUT,
which v11 refuses without running anything, naming the procedure's type. The PUT is sent once per path, and only after
a POST there was answered as tRPC answers: whatever else may listen under the base path never sees one. What stays
unknown counts as a mutation. What was learned is forgotten after a while, because a deployment may change it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from dataclasses import dataclass

from proxy.forward import Send
from proxy.framing import RequestHead, header
from proxy.roads.json import whole_answer
from proxy.trpc.probe import PROBE_BODY, Procedure, read_probe
from proxy.trpc.targets import Calls, parse_target
from proxy.trpc.transformers import Transformer
from proxy.upstream import Upstream, UpstreamError
from shadow.contract import Contract

MOST_PATHS = 10_000
"""How many paths are remembered; more are not, so that odd ones cannot fill the memory."""

PROBE_SECONDS = 2.0

READS = frozenset({Procedure.QUERY, Procedure.SUBSCRIPTION})
"""What surely changes nothing."""

_OF_THE_BODY = frozenset(
    {
        b"accept",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"idempotency-key",
        b"transfer-encoding",
        b"trpc-accept",
        b"trpc-batch-mode",
    }
)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a path names, and when that was seen (seconds of a clock that only moves on)."""

    kind: Procedure | None
    at: float


class Procedures:
    """What is known of the procedures of one legacy; `fresh` is how many seconds it stays known."""

    def __init__(
        self,
        contract: Contract,
        upstream: Upstream,
        transformer: Transformer,
        clock: Callable[[], float],
        *,
        fresh: float = 3600.0,
    ) -> None:
        self._contract = contract
        self._upstream = upstream
        self._transformer = transformer
        self._clock = clock
        self._fresh = fresh
        self._reads = frozenset(_reads(contract))
        self._learned: dict[str, Learned] = {}
        self._seen: set[bytes] = set()
        self._probes: dict[str, asyncio.Future[Procedure | None]] = {}

    def kind(self, path: str) -> Procedure | None:
        """Return what a procedure is known to be; None while nobody knows."""
        if path in self._contract.mutations:
            return Procedure.MUTATION
        if path in self._reads:
            return Procedure.QUERY
        learned = self._learned.get(path)
        if learned is None:
            return None
        if self._clock() - learned.at > self._fresh:
            del self._learned[path]
            self._seen.clear()
            return None
        return learned.kind

    def reads_only(self, path: str) -> bool:
        """Tell whether a call of this procedure surely changes nothing."""
        return self.kind(path) in READS

    @property
    def learned(self) -> Container[bytes]:
        """The paths, as they are written, of which a GET has nothing to be learned from any more."""
        return self._seen

    def learning(self, send: Send, raw_path: bytes, query: bytes) -> Send:
        """Return what the answer to a GET is to be sent with: `send`, or something that learns from it, once a path."""
        if raw_path in self._seen or len(self._seen) >= MOST_PATHS:
            return send

        async def learn(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                self._learn(raw_path, query, header(message["headers"], b"content-type"))  # type: ignore[arg-type]
            await send(message)

        return learn

    async def probed(self, path: str, head: RequestHead) -> Procedure | None:
        """Return what a procedure is, asking the legacy if nobody knows.

        `head` is that of a POST to it which the legacy has answered as tRPC does; the PUT carries its credentials.
        """
        known = self.kind(path)
        if known is not None or path in self._learned or not self._contract.legacy.probe:
            return known
        asked = self._probes.get(path)
        if asked is not None:
            return await asyncio.shield(asked)
        self._probes[path] = future = asyncio.get_running_loop().create_future()
        kind: Procedure | None = None
        try:
            kind = await self._probe(path, head)
        finally:
            del self._probes[path]
            future.set_result(kind)
        self._remember(path, kind)
        return kind

    async def _probe(self, path: str, head: RequestHead) -> Procedure | None:
        kept = [(name, value) for name, value in head.headers if name.lower() not in _OF_THE_BODY]
        base = self._contract.legacy.base_path.rstrip("/").encode()
        target = base + b"/" + path.replace(".", self._contract.legacy.separator).encode()
        probe = RequestHead(b"PUT", target, [*kept, (b"Content-Type", b"application/json")])
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                answer = await self._upstream.request(probe, PROBE_BODY)
                body = await whole_answer(answer)
        except (UpstreamError, TimeoutError):
            return None
        allow, content_type = header(answer.headers, b"allow"), header(answer.headers, b"content-type")
        return read_probe(answer.status, allow, content_type, body, self._transformer)

    def _learn(self, raw_path: bytes, query: bytes, content_type: bytes) -> None:
        self._seen.add(raw_path)
        media_type = content_type.partition(b";")[0].strip().lower()
        if media_type not in {b"application/json", b"text/event-stream"}:
            return
        legacy = self._contract.legacy
        target = parse_target("GET", raw_path, query, base_path=legacy.base_path, separator=legacy.separator)
        if isinstance(target, Calls):
            streams = media_type == b"text/event-stream"
            for path in target.paths:
                self._remember(path, Procedure.SUBSCRIPTION if streams else Procedure.QUERY)

    def _remember(self, path: str, kind: Procedure | None) -> None:
        if len(self._learned) < MOST_PATHS:
            self._learned[path] = Learned(kind, self._clock())


def _reads(contract: Contract) -> set[str]:
    """Return the queries by which the contract reads."""
    entities = contract.entities.values()
    return {entity.list.query for entity in entities if entity.list} | {
        entity.get.query for entity in entities if entity.get
    }
