"""A real legacy and a real proxy in front of it, both of which may die at any moment and are brought back."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from shadow.errors import LogError
from shadow.events import EntityKey
from shadow.faults import Point
from shadow.journal import QUARANTINED, UNSETTLED
from shadow.log import Log
from shadow.reader import Reader
from tests.crash.facts import Said
from tests.crash.nursery import Child, Nursery
from tests.support.contracts import contract_with
from tests.support.legacy import Legacy, start_legacy

LEGACY = ("--faults", "--delta", "0")
"""How the legacy is started: it fails when it is asked to."""

LOOK = 0.03
"""Seconds between two looks at what another process does."""

MAX_REQUEST = ('max_request = "30s"', 'max_request = "500ms"')
"""No request lives longer in this legacy, so that doubts settle soon; the script asks for no longer delays."""

FAIL_OPEN = ('on_log_failure = "fail_closed"', 'on_log_failure = "fail_open"')
"""The sessions go on while the log cannot be written; all other phases are closed then."""

FULL = 16 * 1024
"""Bytes beyond which no file can be written on a full disk: the database is longer, the spool is not."""

RESPONSE_TIMEOUT = 0.25
"""Seconds after which the proxy gives up waiting for an answer."""

WITNESS = """
CREATE TABLE IF NOT EXISTS witness (seq INTEGER PRIMARY KEY, fields TEXT);
CREATE TRIGGER IF NOT EXISTS witnesses AFTER INSERT ON audit BEGIN
    INSERT INTO witness VALUES (NEW.seq, CASE NEW.entity
        WHEN 'session' THEN (SELECT json_object('title', title, 'provider', provider, 'model', model,
            'agentId', agentId, 'enabledRuleIds', json(enabledRuleIds)) FROM sessions WHERE id = NEW.key)
        WHEN 'message' THEN (SELECT json_object('sessionId', sessionId, 'role', role, 'content', content)
            FROM messages WHERE id = NEW.key)
    END);
END;
"""
"""Makes the legacy's own database keep, in each of its transactions, what the changed entity looked like then."""


class Restless(AssertionError):
    """A round does not come to an end; the message says what is still going on."""


@dataclass(slots=True)
class Tally:
    """What an arena has lived through."""

    proxy_kills: int = 0
    legacy_kills: int = 0
    reached: list[Point] = field(default_factory=list)
    """The points at which a proxy killed itself."""

    @property
    def kills(self) -> int:
        """How often somebody was killed who was at work."""
        return self.proxy_kills + self.legacy_kills


@dataclass(slots=True)
class Arena:
    """Both processes, and what is known of them."""

    folder: Path
    nursery: Nursery
    contract: Path
    ports: tuple[int, int, int]
    """Of the legacy, the proxy and its admin port."""
    legacy: Legacy
    database: str
    proxy: Child | None = None
    reader: Reader | None = None
    tally: Tally = field(default_factory=Tally)
    rounds: int = 0
    """How many rounds were begun in it."""
    said: dict[str, Said] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    down_since: dict[str, float] = field(default_factory=dict)
    legacy_kills: int = 0
    """How often the legacy died, in this round."""
    down: float = 0.0
    """Seconds for which one of the two was away, in this round."""
    offs: list[tuple[int, int]] = field(default_factory=list)
    """From when to when (milliseconds) the phase of the round's setting may have been off."""
    unsure: set[EntityKey] = field(default_factory=set)
    """What was written while its phase was off, so that nobody can say what the log should have of it."""
    points: list[tuple[Point, int]] = field(default_factory=list)
    """Where the proxies that are still to be started will kill themselves."""
    armed: Point | None = None
    """Where the running proxy is going to kill itself."""
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    @property
    def url(self) -> str:
        """Where clients reach the proxy."""
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def admin(self) -> str:
        """Where the proxy's admin port is."""
        return f"http://127.0.0.1:{self.ports[2]}"

    def make_secret(self) -> str:
        """Make up a secret whose beginning, which the legacy shows, is not told from others by chance."""
        secret = "sk-" + secrets.token_hex(16)
        self.secrets.append(secret)
        return secret

    async def serving(self) -> None:
        """Wait until the proxy is there."""
        await self._up.wait()

    async def start_proxy(self) -> None:
        """Start the proxy, armed with the next point if there is one; it may not live to be ready."""
        self.armed, arrival = self.points.pop(0) if self.points else (None, 0)
        fault = f"{self.armed}:{arrival}" if self.armed else ""
        arguments = [
            *("serve", "--legacy", f"http://127.0.0.1:{self.ports[0]}", "--contract", str(self.contract)),
            *("--database", self.database, "--initial-stage", "dualwrite", "--response-timeout", str(RESPONSE_TIMEOUT)),
            *("--port", str(self.ports[1]), "--admin-port", str(self.ports[2]), "--drain", "5"),
        ]
        self.proxy = await self.nursery.start(arguments, self.folder / "proxy" / "proxy.log", fault=fault)
        self._is_up("proxy")
        if not self.proxy.ended.done():
            self._up.set()

    async def keep_proxy(self) -> None:
        """Bring the proxy back whenever it has died."""
        while True:
            assert self.proxy is not None
            await asyncio.shield(self.proxy.ended)
            self._up.clear()
            self._is_down("proxy")
            if not self.proxy.was_killed:
                raise AssertionError(f"the proxy ended by itself: {self.proxy.said()}")
            self.tally.proxy_kills += 1
            if self.armed is not None:
                self.tally.reached.append(self.armed)
            await self.start_proxy()

    async def keep_legacy(self) -> None:
        """Bring the legacy back, at its address, whenever it has died."""
        while True:
            await _ended(self.legacy.process.pid)
            self.legacy.process.wait()
            self._is_down("legacy")
            self.tally.legacy_kills += 1
            self.legacy_kills += 1
            if self.legacy.process.stdout is not None:
                self.legacy.process.stdout.close()
            await self._start_legacy_again()
            self._is_up("legacy")

    async def _start_legacy_again(self) -> None:
        """Start the legacy at its address; a process that is being started is never left behind."""
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(None, partial(start_legacy, self.legacy.data, *LEGACY, port=self.ports[0]))
        try:
            self.legacy = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self.legacy = await starting
            raise

    async def arm(self, points: Sequence[tuple[Point, int]]) -> None:
        """Have the proxy kill itself at these points, one after the other, and at no other; starts it anew for that.

        It may come to a point, and die, as soon as it starts.
        """
        await self.serving()
        if points or self.armed:
            self.points = list(points)
            await self.kill_proxy()
            self.tally.proxy_kills -= 1  # it was doing nothing
            await self.serving()

    async def kill_proxy(self) -> None:
        """Kill -9."""
        await self.serving()
        assert self.proxy is not None
        self._up.clear()
        self.armed = None
        self.proxy.kill()

    def kill_legacy(self) -> None:
        """Kill -9."""
        if self.legacy.process.poll() is None:
            os.kill(self.legacy.process.pid, signal.SIGKILL)

    async def freeze_legacy(self, seconds: float) -> None:
        """Stop the legacy in the middle of whatever it does, and let it go on after a while."""
        pid = self.legacy.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    async def fill_disk(self, seconds: float) -> None:
        """Let no file of the proxy grow for a while, or until it dies: the next one finds room."""
        await self.serving()
        assert self.proxy is not None
        victim = self.proxy
        self._is_down("disk")
        victim.limit_files(FULL)
        try:
            await asyncio.wait([victim.ended], timeout=seconds)
        finally:
            victim.limit_files(resource.RLIM_INFINITY)
            self._is_up("disk")

    async def flip_stage(self, phase: str, seconds: float) -> None:
        """Turn a phase off, and on again after a while."""
        self.unsure |= {EntityKey("rule", "concise"), EntityKey("agent", "selected")}
        async with httpx.AsyncClient(base_url=self.admin, timeout=30, trust_env=False) as http:
            began = time.time_ns() // 1_000_000
            for stage in ("off", "dualwrite"):
                while True:
                    answer = await http.post(f"/stages/{phase}", json={"stage": stage, "reason": "the test wants it"})
                    if answer.status_code == 200 or "already" in answer.text:
                        break
                    await asyncio.sleep(LOOK)
                await asyncio.sleep(seconds)
            self.offs.append((began, time.time_ns() // 1_000_000))

    async def quiet(self, within: float) -> None:
        """Wait until both are there, nothing is in flight and no doubt is left that can be resolved.

        Raises `Restless`, which says what is still going on, when that takes longer than `within` seconds.
        """
        calm, unrest = 0, "nobody has looked yet"
        try:
            async with asyncio.timeout(within), httpx.AsyncClient(base_url=self.admin, trust_env=False) as http:
                while calm < 2:
                    await asyncio.sleep(LOOK)
                    await self.serving()
                    unrest = await self._unrest(http)
                    calm = 0 if unrest else calm + 1
        except TimeoutError:
            raise Restless(f"after {within:g} s: {unrest or 'now it is quiet'}") from None

    async def _unrest(self, http: httpx.AsyncClient) -> str:
        """Return what is still going on; empty when nothing is."""
        if self.down_since:
            return f"{', '.join(self.down_since)} down"
        try:
            status = (await http.get("/status")).json()
            unsettled = await asyncio.to_thread(self.reading().intents, UNSETTLED)
        except (httpx.HTTPError, LogError) as error:
            return f"the proxy does not tell: {error!r}"
        if spooled := status["log"]["spooled"]:
            return f"{spooled} calls in the spool"
        if busy := [phase["phase"] for phase in status["phases"] if phase["in_flight"]]:
            return f"calls in flight in {', '.join(busy)}"
        doubts = [intent for intent in unsettled if not (intent.detail or "").startswith(QUARANTINED)]
        return ", ".join(f"{one.procedure} {one.id} is {one.outcome.value} ({one.detail})" for one in doubts)

    def reading(self) -> Reader:
        """Return the log, for reading beside the proxy."""
        if self.reader is None:
            self.reader = Log.read_only(self.database)
        return self.reader

    def _is_down(self, who: str) -> None:
        self.down_since.setdefault(who, time.monotonic())

    def _is_up(self, who: str) -> None:
        since = self.down_since.pop(who, None)
        if since is not None:
            self.down += time.monotonic() - since


@asynccontextmanager
async def arena(folder: Path, nursery: Nursery, *, fail_open: bool = False) -> AsyncIterator[Arena]:
    """A fresh legacy and a proxy in front of it, kept alive for the length of a block."""
    ports = free_ports()
    legacy = await asyncio.to_thread(start_legacy, folder / "legacy", *LEGACY, port=ports[0])
    (folder / "proxy").mkdir(parents=True)
    with closing(sqlite3.connect(legacy.data / "assistant.db", timeout=10)) as database:
        database.executescript(WITNESS)
    database_url = f"sqlite:///{folder / 'proxy' / 'log.db'}"
    here = Arena(
        folder,
        nursery,
        contract_with(folder, MAX_REQUEST, *((FAIL_OPEN,) if fail_open else ())),
        ports,
        legacy,
        database_url,
    )
    try:
        await here.start_proxy()
        async with asyncio.TaskGroup() as keepers:
            keeping = [keepers.create_task(here.keep_proxy()), keepers.create_task(here.keep_legacy())]
            yield here
            for task in keeping:
                task.cancel()
    finally:
        if here.reader is not None:
            here.reader.release()
        if here.proxy is not None:
            here.proxy.kill()
        await asyncio.to_thread(here.legacy.kill)


async def _ended(pid: int) -> None:
    """Wait until a process has ended, with no thread of its own: there are few, and each round needs some."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    process = os.pidfd_open(pid)
    loop.add_reader(process, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(process)
        os.close(process)


def free_ports() -> tuple[int, int, int]:
    """Return three ports that were free a moment ago, and that no connection is ever given for its own end.

    Whoever dies comes back to its port; meanwhile the system must not have lent it to a client.
    """
    lent_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with ExitStack() as taken:
        found: list[int] = []
        while len(found) < 3:
            one = taken.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", lent_from - 1 - secrets.randbelow(16_384)))
                found.append(one.getsockname()[1])
        return found[0], found[1], found[2]
