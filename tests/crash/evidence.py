"""Collects the facts of a run: what the legacy's database, its settings file, the journal and the log say."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shadow.contract import Contract, load
from shadow.events import EntityKey, Event
from shadow.journal import Intent
from shadow.json import Json
from shadow.privacy import Privacy
from shadow.secrets import Keyring
from shadow.stages import CHANNEL as STAGES
from tests.crash.arena import Arena
from tests.crash.facts import IN_THE_DATABASE, Entry, Facts, Fields, Row, Said, Told, Turn
from tests.support.proxy import KEYS

BOUND = 500 + 2 * 5_000 + 4_500
"""Milliseconds: the contract's `max_request`, two looks in vain at a legacy that has just come back and is too busy to
answer in time, with the longest pause after each, and what the last one may take on a busy machine.
"""


def facts_of(arena: Arena, said: Sequence[Said], *, after: Marks | None = None) -> Facts:
    """Return the facts since the marks were taken, or all of them."""
    since = after or Marks()
    contract = load(arena.contract)
    reader = arena.reading()
    rows = tuple(rows_in(arena.legacy.data, since.row))
    events = reader.read(["*"], since.position, 1_000_000)
    intents = reader.intents(after=since.intent)
    touched = {row.key for row in rows} | {event.draft.entity for event in events if event.draft.entity is not None}
    keys = {key for key in touched if key.entity in contract.entities and key not in arena.unsure}
    privacy = Privacy(contract, Keyring.parse(KEYS))
    states = {key: state for key in keys if (state := reader.state(key)) is not None}
    damage = reader.verify()
    return Facts(
        said=tuple(said),
        rows=rows,
        entries=tuple(entry_of(intent) for intent in intents),
        told=tuple(told_of(event) for event in events if _of_a_call(event)),
        turns=tuple(turn_of(event) for event in reader.read([STAGES], 0, 1_000_000, ["stage-changed"])),
        legacy={key: fields for key, fields in _legacy(arena, contract, rows) if key in keys},
        state={key: _opened(privacy, key, state.fields) for key, state in states.items()},
        broken=None if damage is None else str(damage),
        leaked=tuple(leaks(arena.folder / "proxy", arena.secrets)),
        legacy_kills=arena.legacy_kills,
        down=round(arena.down * 1000),
        bound=BOUND,
    )


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the witnesses were at the beginning of a round."""

    row: int = 0
    intent: int = 0
    position: int = 0

    def behind(self, facts: Facts) -> Marks:
        """Return the marks at the end of the round that began at these; `facts` are its facts."""
        positions = [told.position for told in facts.told] + [turn.position for turn in facts.turns]
        return Marks(
            max([self.row, *(row.seq for row in facts.rows)]),
            max([self.intent, *(entry.id for entry in facts.entries)]),
            max([self.position, *positions]),
        )


def rows_in(data: Path, after: int) -> Iterator[Row]:
    """Yield the changes that a legacy committed, in the order of its commits."""
    query = (
        "SELECT audit.seq, procedure, entity, key, at, fields FROM audit LEFT JOIN witness USING (seq) "
        "WHERE audit.seq > ? ORDER BY audit.seq"
    )
    with closing(sqlite3.connect(f"file:{data / 'assistant.db'}?mode=ro", uri=True, timeout=10)) as database:
        for seq, procedure, entity, key, at, fields in database.execute(query, (after,)):
            name = EntityKey(*_NAMES.get((entity, key), (entity, key)))
            yield Row(seq, procedure, name, at, json.loads(fields) if fields else None, entity in IN_THE_DATABASE)


_NAMES = {("selection", "agent"): ("agent", "selected")}
"""Where the legacy's audit table calls an entity otherwise than the contract."""


def entry_of(intent: Intent) -> Entry:
    """Return an intent as the checker sees it."""
    token = intent.input.get("token") if isinstance(intent.input, dict) else None
    return Entry(
        intent.id,
        str(token),
        intent.procedure,
        intent.phase,
        intent.stage_epoch,
        intent.outcome,
        intent.received,
        intent.deadline,
        intent.settled_at,
        intent.entity_key,
        intent.detail,
    )


def told_of(event: Event) -> Told:
    """Return an event as the checker sees it."""
    draft = event.draft
    kind, _, number = (draft.cause or "").partition(":")
    found = kind == "doubt"
    intent = int(number) if kind in {"intent", "doubt"} else None
    return Told(event.position, draft.type, draft.entity, intent, found, draft.change if found else None)


def turn_of(event: Event) -> Turn:
    """Return a stage change as the checker sees it."""
    data = event.draft.data
    assert isinstance(data, dict)
    return Turn(event.position, str(data["phase"]), int(data["epoch"]))


def leaks(folder: Path, secrets: Sequence[str]) -> Iterator[str]:
    """Yield each file below `folder` in which a secret stands in clear."""
    needles = [secret.encode() for secret in secrets]
    for path in sorted(folder.rglob("*")):
        text = path.read_bytes() if path.is_file() else b""
        found = sum(1 for needle in needles if needle in text)
        if found:
            yield f"{found} secrets in {path.name}"


def _of_a_call(event: Event) -> bool:
    return event.draft.cause not in {"lifecycle", "stage", "spool"}


def _opened(privacy: Privacy, key: EntityKey, fields: Json) -> Fields | None:
    opened = privacy.open_fields(key, fields)
    return opened if isinstance(opened, dict) else None


def _legacy(arena: Arena, contract: Contract, rows: Sequence[Row]) -> Iterator[tuple[EntityKey, Fields | None]]:
    """Yield the legacy's last word on what was touched, with the contract's fields only."""
    for key, fields in {row.key: row.fields for row in rows if row.key.entity == "session"}.items():
        yield key, _only(contract, key, fields)
    settings = arena.legacy.settings()
    assert isinstance(settings, dict)
    providers = settings.get("providers") or {}
    yield EntityKey("provider", "openai"), _only(contract, EntityKey("provider", "openai"), providers.get("openai"))
    chosen = EntityKey("selection", "default")
    yield chosen, _only(contract, chosen, settings)
    for rule, enabled in (settings.get("rules") or {}).items():
        yield EntityKey("rule", rule), {"enabled": enabled}
    yield EntityKey("agent", "selected"), {"selected": settings.get("agent", "coder")}


def _only(contract: Contract, key: EntityKey, fields: Fields | None) -> Fields | None:
    if fields is None:
        return None
    return {name: fields[name] for name in contract.entities[key.entity].fields if fields.get(name) is not None}
