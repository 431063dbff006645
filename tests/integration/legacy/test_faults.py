"""Every failure that the example legacy can be asked for, as the real client sees it, and what it had committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.legacy import Legacy, audit_in, running_legacy
from tests.support.node_client import Client, Link, NodeClient, mutation, query

CALL = mutation("session.updateTitle", {"sessionId": "s", "title": "t"}, abort_after=400)


def asking(legacy: Legacy, fault: str, link: Link = "httpBatchLink") -> Client:
    return Client(legacy.url, link, headers={"x-fault": fault})


@pytest.mark.parametrize(
    ("fault", "committed"),
    [
        ("hang-before-commit", 0),
        ("hang-after-commit", 1),
        ("reset-before-commit", 0),
        ("reset-after-commit", 1),
        ("error-before-commit", 0),
        ("error-after-commit", 1),
        ("truncate-after-commit", 1),
    ],
)
@pytest.mark.parametrize("link", ["httpBatchLink", "wsLink"])
async def test_a_failed_call_may_have_been_applied(
    legacy: Legacy, node_client: NodeClient, fault: str, committed: int, link: Link
) -> None:
    result = await node_client.call(asking(legacy, fault, link), CALL)
    assert result.error is not None
    assert (result.error.code == "INTERNAL_SERVER_ERROR") == fault.startswith("error")
    assert len(legacy.audit()) == committed
    assert (await node_client.call(Client(legacy.url), query("session.getCount"))).data == 0


@pytest.mark.parametrize(("fault", "committed"), [("crash-before-commit", 0), ("crash-after-commit", 1)])
async def test_a_crash_keeps_exactly_what_was_committed(
    tmp_path: Path, node_client: NodeClient, fault: str, committed: int
) -> None:
    async with running_legacy(tmp_path, "--faults") as legacy:
        result = await node_client.call(asking(legacy, fault), CALL)
        assert result.error is not None
        assert await legacy.exited() == -9
    assert len(audit_in(tmp_path)) == committed
    async with running_legacy(tmp_path, port=legacy.port) as revived:
        assert revived.url == legacy.url
        assert (await node_client.call(Client(revived.url), CALL)).error is None


async def test_a_delayed_call_is_applied_after_its_caller_gave_up(legacy: Legacy, node_client: NodeClient) -> None:
    """A timeout says nothing: here the change comes when nobody waits for it any more."""
    late = asking(legacy, "delay-before-commit:1000")
    result = await node_client.call(late, CALL)
    assert result.error is not None
    answered = await node_client.call(late, mutation("session.delete", {"sessionId": "s"}))
    assert answered.error is None
    assert [row.procedure for row in legacy.audit()] == ["session.updateTitle", "session.delete"]


async def test_a_fault_may_be_meant_for_one_member_of_a_batch(legacy: Legacy, node_client: NodeClient) -> None:
    run = await node_client.run(
        asking(legacy, "session.delete=error-after-commit"),
        mutation("session.updateTitle", {"sessionId": "s", "title": "t"}),
        mutation("session.delete", {"sessionId": "s"}, together=True),
    )
    assert [result.error is None for result in run.results] == [True, False]
    assert [exchange.status for exchange in run.http] == [207]
    assert len(legacy.audit()) == 2


async def test_without_the_option_nobody_can_ask_for_a_fault(tmp_path: Path, node_client: NodeClient) -> None:
    async with running_legacy(tmp_path) as legacy:
        assert (await node_client.call(asking(legacy, "error-before-commit"), CALL)).error is None


async def test_an_unknown_fault_is_refused(legacy: Legacy, node_client: NodeClient) -> None:
    result = await node_client.call(asking(legacy, "sulk"), CALL)
    assert result.error is not None
    assert result.error.message == 'Unknown fault "sulk"'
