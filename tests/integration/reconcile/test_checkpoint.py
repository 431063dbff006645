"""A run that was stopped goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.errors import ReconcileError
from reconcile.report import Verdict
from reconcile.run import Options
from tests.support.memory_legacy import CONTRACT
from tests.support.reconcile import world

PARTIAL = CONTRACT.replace('cursor = "output.nextCursor"', 'cursor = "output.nextCursor", lacks = ["tags"]')


class StoppedError(Exception):
    """The run was stopped."""


async def test_what_was_proven_is_not_read_again(tmp_path: Path) -> None:
    async with world(tmp_path, PARTIAL) as both:
        for number in range(60):
            await both.write(f"n{number:02}", number, title="T", tags=[number])
        options = Options(checkpoint=tmp_path / "run.json", self_test=False)

        async def stop(procedure: str) -> None:
            if both.memory.requests.count("note.get") == 40:
                raise StoppedError

        both.memory.meanwhile = stop
        with pytest.raises(StoppedError):
            await both.reconcile(options)
        both.memory.meanwhile = None
        both.memory.requests.clear()
        both.memory.notes["n00"]["title"] = "tampered"
        report = await both.reconcile(options)
        assert (report.planned, report.exact) == (60, 60)
        assert both.memory.requests.count("note.get") < 40
        assert not (tmp_path / "run.json").exists()
        assert (await both.reconcile(options)).verdict is Verdict.DRIFT


async def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text('{"schema": "changeover.reconcile-checkpoint/1", "identity": {}, "proven": {}}')
    async with world(tmp_path) as both:
        with pytest.raises(ReconcileError, match="another contract, log or API; remove it"):
            await both.reconcile(Options(checkpoint=file))
        file.write_text("{")
        with pytest.raises(ReconcileError, match="cannot read the checkpoint"):
            await both.reconcile(Options(checkpoint=file))
