"""What a proxy's journal and log say, read beside it as the read-only commands do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from shadow.events import Draft, EntityKey
from shadow.journal import UNSETTLED, Intent
from shadow.json import Json
from shadow.log import Log

POLL = 0.05
"""Seconds between two looks; what a test waits for, it waits for however long it takes."""


def intents(database: str) -> list[Intent]:
    """Return every intent, oldest first."""
    reader = Log.read_only(database)
    try:
        return reader.intents()
    finally:
        reader.release()


def drafts(database: str) -> list[Draft]:
    """Return the events that calls led to, oldest first; not those that tell of the proxy and the legacy themselves."""
    reader = Log.read_only(database)
    try:
        everything = [event.draft for event in reader.read(["*"], 0, 100_000)]
        return [draft for draft in everything if not draft.channel.startswith("app:")]
    finally:
        reader.release()


def fields(database: str, entity: str, key: str) -> dict[str, Json] | None:
    """Return what the log has of an entity."""
    reader = Log.read_only(database)
    try:
        state = reader.state(EntityKey(entity, key))
        return None if state is None else state.fields
    finally:
        reader.release()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the test's own time limit ends it if it never does."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(POLL)


async def settled(database: str) -> list[Intent]:
    """Wait until no intent is open or in doubt and return them all."""
    await until(lambda: all(intent.outcome not in UNSETTLED for intent in intents(database)))
    return intents(database)
