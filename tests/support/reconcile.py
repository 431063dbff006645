"""A log, a contract and a legacy in memory, put together for tests of the reconciler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reconcile.answers import PlainWire
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy
from reconcile.pace import Limits, Pace
from reconcile.report import Report
from reconcile.run import Options, compare
from shadow.contract import Contract, parse
from shadow.events import Draft, Effect, EntityKey
from shadow.journal import NewIntent, Outcome, Settlement
from shadow.json import Json
from shadow.log import Log
from tests.support.memory_legacy import CONTRACT, MemoryLegacy

TODAY = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


@dataclass(slots=True)
class World:
    """Everything that a run looks at. `write` does what a client does through the proxy: both sides change."""

    log: Log
    url: str
    memory: MemoryLegacy
    contract: Contract
    numbers: list[int] = field(default_factory=lambda: [0])

    async def begin(self, procedure: str, key: str | None, **wanted: Json) -> int:
        """Record an intent."""
        entity_key = None if key is None else EntityKey("note", key)
        (intent,) = await self.log.begin(
            [
                NewIntent(
                    f"r{self.log.head.position}-{key}-{procedure}",
                    0,
                    procedure,
                    "notes",
                    0,
                    entity_key,
                    wanted,
                    None,
                    TODAY,
                    TODAY + 30_000,
                )
            ]
        )
        return intent

    async def settle(self, intent: int, outcome: Outcome, *drafts: Draft, detail: str | None = None) -> None:
        """Record what became of an intent."""
        await self.log.settle([Settlement(intent, outcome, TODAY, drafts, detail)])

    def draft(self, key: str, effect: Effect, change: dict[str, Json] | None, cause: str | None = None) -> Draft:
        """Return an event on a note."""
        self.numbers[0] += 1
        return Draft(
            id=f"e{self.numbers[0]}",
            channel=f"note:{key}",
            type=f"note-{effect}",
            time=TODAY,
            data={},
            entity=EntityKey("note", key),
            effect=effect,
            change=change,
            cause=cause,
        )

    async def write(self, key: str, updated: int = 0, **fields: Json) -> None:
        """Create or change a note through the proxy."""
        there = key in self.memory.notes
        intent = await self.begin("note.rename" if there else "note.create", key if there else None, id=key, **fields)
        self.memory.notes[key] = {**self.memory.notes.get(key, {}), **fields, "id": key, "updated": updated}
        effect = Effect.PATCH if there else Effect.CREATE
        await self.settle(intent, Outcome.APPLIED, self.draft(key, effect, fields, f"intent:{intent}"))

    async def reconcile(
        self, options: Options | None = None, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> Report:
        """Run; time passes only while the run sleeps, and then `meanwhile` happens."""
        clock = [0.0]

        async def pause(seconds: float) -> None:
            clock[0] += seconds
            if meanwhile is not None:
                await meanwhile()

        pace = Pace(Limits(), clock=lambda: clock[0], sleep=pause)
        with Evidence.open(self.url) as evidence:
            async with self.memory.client() as client:
                legacy = Legacy(client, "http://legacy/trpc", wire=PlainWire(), pace=pace)
                return await compare(
                    self.contract,
                    evidence,
                    legacy,
                    options or Options(self_test=False),
                    address="http://user:pass@legacy",
                    progress=lambda _: None,
                    clock=lambda: TODAY,
                    sleep=pause,
                )


@asynccontextmanager
async def world(directory: Path, contract: str = CONTRACT, database: str | None = None) -> AsyncIterator[World]:
    """Open a fresh log and everything around it, on SQLite or at the URL of another `database`."""
    url = database or f"sqlite:///{directory / 'log.db'}"
    log = Log.open(url)
    try:
        yield World(log, url, MemoryLegacy(), parse(contract, "contract.toml"))
    finally:
        await log.close()
