"""What the witnesses say is taken down as they say it: a checker that gets other facts proves nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from shadow.events import EntityKey
from shadow.log import Log
from tests.crash.arena import WITNESS
from tests.crash.evidence import Marks, leaks, rows_in, told_of
from tests.crash.facts import Facts, Told, Turn
from tests.support.facts import draft

LEGACY = """
CREATE TABLE sessions (id TEXT PRIMARY KEY, title, provider, model, agentId, enabledRuleIds);
CREATE TABLE messages (id TEXT PRIMARY KEY, sessionId, role, content);
CREATE TABLE audit (seq INTEGER PRIMARY KEY, procedure, entity, key, at);
"""
"""The legacy's own tables, as far as the witness reads them."""


def test_a_secret_is_found_in_whatever_file_it_stands(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log.db-wal").write_bytes(b"\0\1sk-secret-one\0")
    (tmp_path / "proxy.log").write_bytes(b"sk-secret-*** is masked")

    assert list(leaks(tmp_path, ["sk-secret-one", "sk-secret-two"])) == ["1 secrets in log.db-wal"]
    assert list(leaks(tmp_path, ["sk-secret-two"])) == []


def test_the_legacys_database_keeps_what_an_entity_looked_like_after_each_change(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "assistant.db")) as database, database:
        database.executescript(LEGACY + WITNESS)
        database.execute("INSERT INTO sessions VALUES ('s', NULL, 'openai', 't1', 'coder', '[]')")
        database.execute("INSERT INTO audit VALUES (1, 'session.create', 'session', 's', 10)")
        database.execute("UPDATE sessions SET title = 't2'")
        database.execute("INSERT INTO audit VALUES (2, 'session.updateTitle', 'session', 's', 20)")
        database.execute("DELETE FROM sessions")
        database.execute("INSERT INTO audit VALUES (3, 'session.delete', 'session', 's', 30)")
        database.execute("INSERT INTO audit VALUES (4, 'agents.select', 'selection', 'agent', 40)")
    rows = list(rows_in(tmp_path, after=0))

    assert [(row.seq, row.token, row.at) for row in rows] == [
        (1, "t1", 10),
        (2, "t2", 20),
        (3, None, 30),
        (4, None, 40),
    ]
    assert rows[1].fields is not None
    assert rows[2].fields is None
    assert [row.shown for row in rows] == [True, True, True, False]
    assert rows[3].key == EntityKey("agent", "selected"), "as the contract calls it"
    assert [row.seq for row in rows_in(tmp_path, after=2)] == [3, 4]


async def test_an_event_is_the_calls_own_or_what_a_look_found(tmp_path: Path) -> None:
    log = Log.open(f"sqlite:///{tmp_path / 'log.db'}")
    key = EntityKey("session", "s")
    events = await log.append(
        [replace(draft(f"event-{cause}", key, title="t"), cause=cause) for cause in ("intent:3", "doubt:4", "order:r")]
    )
    await log.close()

    assert [told_of(event) for event in events] == [
        Told(1, "changed", key, 3),
        Told(2, "changed", key, 4, found=True, fields={"title": "t"}),
        Told(3, "changed", key, None),
    ]


def test_marks_never_go_back() -> None:
    """A round without events ends where the one before did, though the stage changes are read from the beginning."""
    marks = Marks(row=5, intent=7, position=90)

    assert marks.behind(Facts(turns=(Turn(4, "rules", 1),))) == marks
    assert marks.behind(Facts(told=(Told(91, "changed", None, 8),))) == Marks(5, 7, 91)
