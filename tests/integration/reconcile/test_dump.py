"""Comparing with a dump of the legacy instead of the legacy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconcile.answers import PlainWire
from reconcile.compare import Kind
from reconcile.dump import SCHEMA, Dump, read, take
from reconcile.errors import ReconcileError
from reconcile.evidence import Evidence
from reconcile.legacy import Legacy
from reconcile.pace import Limits, Pace
from reconcile.plans import plans
from reconcile.report import Verdict
from reconcile.run import Options
from tests.support.memory_legacy import CONTRACT
from tests.support.reconcile import World, world


@pytest.fixture(name="both")
async def _both(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as both:
        yield both


async def dumped(both: World) -> Dump:
    with Evidence.open(both.url) as evidence:
        async with both.memory.client() as client:
            pace = Pace(Limits(), clock=lambda: 0.0)
            legacy = Legacy(client, "http://legacy/trpc", wire=PlainWire(), pace=pace)
            return await take(legacy, plans(both.contract), evidence)


async def test_a_dump_is_compared_at_its_own_position_whatever_came_later(both: World, tmp_path: Path) -> None:
    for number in range(12):
        await both.write(f"n{number}", number, title="T", tags=[])
    file = tmp_path / "dump.json"
    file.write_text((await dumped(both)).as_text())
    await both.write("n3", title="later")
    asked = len(both.memory.requests)
    report = await both.reconcile(Options(dump=read(file)))
    assert (report.verdict, report.exact) == (Verdict.CLEAN, 12)
    assert report.self_test is not None
    assert report.self_test.recall == 1.0
    assert len(both.memory.requests) == asked


async def test_a_difference_in_a_dump_is_found(both: World) -> None:
    await both.write("a", title="A", tags=[])
    await both.write("b", title="B", tags=[])
    both.memory.notes["a"]["title"] = "tampered"
    del both.memory.notes["b"]
    report = await both.reconcile(Options(dump=await dumped(both)))
    assert {(finding.key, finding.kind) for finding in report.findings} == {
        ("a", Kind.BYPASS_WRITE),
        ("b", Kind.EXTRA_IN_LOG),
    }


async def test_what_changed_while_the_dump_was_taken_stays_unverified(both: World) -> None:
    await both.write("a", title="A", tags=[])
    await both.write("b", title="B", tags=[])

    async def rename(procedure: str) -> None:
        if both.log.head.position == 2:
            await both.write("a", title="new")

    both.memory.meanwhile = rename
    report = await both.reconcile(Options(dump=await dumped(both)))
    assert [(finding.key, finding.kind) for finding in report.findings] == [("a", Kind.UNVERIFIED)]


async def test_a_list_that_shows_less_is_dumped_whole(tmp_path: Path) -> None:
    contract = CONTRACT.replace('cursor = "output.nextCursor"', 'cursor = "output.nextCursor", lacks = ["tags"]')
    async with world(tmp_path, contract) as both:
        await both.write("a", title="A", tags=[1])
        assert (await dumped(both)).entities == {"note": {"a": {"title": "A", "tags": [1]}}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the dump"),
        ("{", "is not JSON"),
        ("{}", "begins with"),
    ],
)
def test_a_file_that_is_no_dump_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "dump.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ReconcileError, match=message):
        read(file)


async def test_a_dump_of_another_log_or_contract_is_refused(both: World, tmp_path: Path) -> None:
    file = tmp_path / "dump.json"
    file.write_text(
        f'{{"schema": "{SCHEMA}", "first_position": 70, "last_position": 70, "entities": {{"note": {{}}}}}}'
    )
    with pytest.raises(ReconcileError, match="belongs to another log"):
        await both.reconcile(Options(dump=read(file)))
    with pytest.raises(ReconcileError, match="nothing of 'note'"):
        await both.reconcile(Options(dump=Dump({})))
