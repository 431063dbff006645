"""The same comparison over a log in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from reconcile.compare import Kind
from reconcile.run import Options
from shadow.journal import Outcome
from tests.support.postgres import Postgres
from tests.support.reconcile import world


async def test_a_log_in_postgresql_is_compared_traced_and_probed(postgres: Postgres, tmp_path: Path) -> None:
    async with world(tmp_path, database=postgres.database()) as both:
        for number in range(12):
            await both.write(f"n{number}", number, title=f"T{number}", tags=[number])
            await both.write(f"n{number}", number, title="B")
        clean = await both.reconcile(Options())
        both.memory.notes["n3"]["title"] = "tampered"
        doubt = await both.begin("note.rename", "n4", title="D")
        await both.settle(doubt, Outcome.IN_DOUBT)
        found = await both.reconcile(Options(changed_since=0, sample=3))
    assert clean.self_test is not None
    assert (clean.exit_code, clean.self_test.recall) == (0, 1.0)
    assert [(finding.key, finding.kind) for finding in found.findings] == [
        ("n3", Kind.BYPASS_WRITE),
        ("n4", Kind.IN_DOUBT),
    ]
