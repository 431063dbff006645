"""From a commit to the readers: our SSE beside nchan's, which keeps its events in memory.

Ours is measured from the moment that the commit has returned, theirs from the moment that the event was sent.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import figures
from bench.figures import Row
from bench.load import pinned
from bench.plan import OTHERS_CPU, SERVER_CPU, Plan
from bench.rounds import alternating
from bench.servers import FAST_LEGACY, ROOT, changeover, nchan_available, nginx, nginx_available

NCHAN = """
    nchan_max_reserved_memory 256M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{
            nchan_publisher http; nchan_channel_id bench;
            nchan_message_buffer_length 4096; nchan_message_timeout 1m;
        }}
        location = /subscribe {{
            nchan_subscriber eventsource; nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
"""
LOAD_NCHAN = "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;"

CHANNEL = "session:session-00000001-7b1c-4f4e-9d53-0123456789ab"
SESSION = CHANNEL.partition(":")[2]
RENAME = (
    "POST /trpc/session.updateTitle HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\r\n"
    f'{{"sessionId":"{SESSION}","title":"The title after change NUMBER"}}'
)
EVENT = (
    '{"id":"0193f1a2-7b1c-7f4e-9d53-0123456789ab","cursor":{"timestamp":1700000000000,"sequence":12345},'
    f'"channel":"{CHANNEL}","type":"session-title-updated","timestamp":1700000000000,'
    f'"payload":{{"sessionId":"{SESSION}","title":"The title after change NUMBER","type":"session-title-updated"}}}}'
)
"""What our readers get, so that nchan's get the same."""
PUBLISH = f"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\r\n{EVENT}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What readers saw: milliseconds from the event to a reader, at the median, and deliveries a second."""

    p50: float
    rate: float


async def rows(plan: Plan) -> AsyncIterator[Row]:
    """Measure and yield each row."""
    if not nginx_available():
        yield Row("commit to 1 SSE reader, p50", "ms", figures.ratio(at_most=2), note="nginx is not installed")
        return
    async with AsyncExitStack() as stack:
        folder = plan.folder
        legacy = await stack.enter_async_context(nginx(FAST_LEGACY, folder / "feed-legacy", cpu=OTHERS_CPU))
        commits = folder / "commits"
        ours = await stack.enter_async_context(
            changeover(
                legacy, folder / "feed", cpu=SERVER_CPU, program=("-m", "bench.timed"), BENCH_COMMITS=str(commits)
            )
        )
        theirs: int | None = None
        if nchan_available():
            body = nginx(NCHAN, folder / "nchan", cpu=SERVER_CPU, modules=LOAD_NCHAN)
            theirs = await stack.enter_async_context(body)
        for readers in (1, 1_000):
            for row in await _with(plan, readers, ours.port, commits, theirs):
                yield row


async def _with(plan: Plan, readers: int, ours: int, commits: Path, theirs: int | None) -> list[Row]:
    def mine() -> Awaitable[Seen]:
        return _seen(plan, readers, ours, f"/_changeover/events?channel={CHANNEL}", RENAME, commits)

    def nchan(port: int) -> Callable[[], Awaitable[Seen]]:
        return lambda: _seen(plan, readers, port, "/subscribe", PUBLISH, None)

    found: list[Seen]
    others: list[Seen] = []
    if theirs is None:
        found = [await mine() for _ in range(plan.rounds)]
    else:
        found, others = await alternating(plan.rounds, mine, nchan(theirs))
    count = f"{readers:,} SSE reader{'s' if readers > 1 else ''}"
    target = figures.ratio(at_most=2)
    latency = Row(f"commit to {count}, p50", "ms", target, against="nchan", note="nchan is not installed")
    if others:
        latency = Row(
            latency.name, "ms", target, tuple(one.p50 for one in found), tuple(one.p50 for one in others), "nchan"
        )
    if readers == 1:
        return [latency]
    rates, their_rates = tuple(one.rate for one in found), tuple(one.rate for one in others)
    wanted = figures.own("deliveries/s", at_least=50_000)
    return [latency, Row(f"deliveries to {count}", "deliveries/s", wanted, rates, their_rates, "nchan")]


async def _seen(plan: Plan, readers: int, port: int, target: str, request: str, commits: Path | None) -> Seen:
    if commits is not None:
        commits.write_bytes(b"")
    wanted = {
        "readers": readers,
        "seconds": max(1, plan.seconds - 1),
        "publish_port": port,
        "subscribe_port": port,
        "target": target,
        "request": request,
        "publishers": 32,
    }
    command = [*pinned(OTHERS_CPU), sys.executable, "-m", "bench.readers", json.dumps(wanted)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, cwd=ROOT)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the readers failed; see above")
    found = json.loads(output)
    origin = {int(number): sent for number, sent in found["sent"].items()} if commits is None else _committed(commits)
    return Seen(statistics.median([(seen - origin[number]) / 1e6 for number, seen in found["seen"]]), found["rate"])


def _committed(commits: Path) -> dict[int, int]:
    return {int(number): int(when) for number, when in (line.split() for line in commits.read_text().splitlines())}
