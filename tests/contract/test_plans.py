"""What is done for every mutation looks up rows by their keys, however much there is."""

from __future__ import annotations

import pytest

from shadow import statements
from shadow.dialect import SQLite
from shadow.log import Log
from shadow.statements import Statement
from tests.support.facts import draft, intent

ROWS: dict[str, tuple[Statement, tuple[object, ...]]] = {
    "settle": (statements.SETTLE_INTENTS, (1, "applied", None, 1, 1, 1)),
    "keep": (statements.KEEP_ANSWERS, ("k", 0, 1, "eA==")),
    "free": (statements.FREE_ANSWERS, ("k", 0, 1)),
    "expire": (statements.EXPIRE_ANSWERS, ("k", 0, 1)),
    "states": (statements.READ_STATES, ("session", "s1")),
    "standings": (statements.READ_STANDINGS, (1,)),
    "known": (statements.READ_KNOWN, ("e1",)),
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_batch_reads_no_table_from_end_to_end(log: Log, name: str) -> None:
    await log.begin([intent(request=f"r{number}", idempotency=f"k{number}") for number in range(500)])
    await log.append([draft(f"e{number}") for number in range(500)])
    statement, row = ROWS[name]
    dialect, connection = log._dialect, log._writer._connection
    assert connection is not None
    explain = "EXPLAIN QUERY PLAN " if isinstance(dialect, SQLite) else "EXPLAIN "
    sql = explain + dialect.with_rows(statement.columns, 1) + statement.body
    plan = "\n".join(str(line) for line in connection.exec_driver_sql(sql, dialect.parameters([row])))
    for table in ("intents", "answers", "states", "events", "old"):
        assert f"SCAN {table}" not in plan, plan
        assert f"Seq Scan on {table}" not in plan, plan
