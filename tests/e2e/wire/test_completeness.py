"""No request, however odd, makes the server run a mutation that the proxy does not know of.

And the log holds none that never ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from proxy.trpc.transformers import TRANSFORMERS
from tests.e2e.wire.contract import SAYING_THAT_THEY_RAN
from tests.e2e.wire.test_bytes import ODD, POSTING, at
from tests.support.node_client import Client, NodeClient, query
from tests.support.proxy import ProxyProcess
from tests.support.raw_http import exchange
from tests.support.ways import Ways
from tests.support.wire_servers import ONE_OF_EACH, Wire, WireServer

OUTCOMES = ("applied", "rejected", "in_doubt", "not_applied", "observed")


async def runs(node: NodeClient, server: WireServer) -> Counter[str]:
    """How often each resolver has run, as the server itself counted."""
    client = Client(server.url, version=server.wire.version, transformer=server.wire.transformer)
    asked = [query("ran", procedure, together=index > 0) for index, procedure in enumerate(SAYING_THAT_THEY_RAN)]
    run = await node.run(client, *asked)
    return Counter(dict(zip(SAYING_THAT_THEY_RAN, (result.data for result in run.results), strict=True)))


async def intents(http: httpx.AsyncClient, proxy: ProxyProcess) -> tuple[Counter[str], Counter[str]]:
    """How many intents each mutation has, and how many of them were applied."""
    rows = (await http.get(f"{proxy.admin}/status")).json()["mutations"]
    tried = Counter({row["procedure"]: sum(row.get(outcome, 0) for outcome in OUTCOMES) for row in rows})
    return tried, Counter({row["procedure"]: row.get("applied", 0) for row in rows})


@pytest.mark.parametrize("server", ONE_OF_EACH, ids=str, indirect=True)
async def test_what_ran_was_journalled(
    ways: Ways, server: WireServer, proxies: Callable[[Wire], ProxyProcess], node_client: NodeClient
) -> None:
    proxy = proxies(server.wire)
    transformer = TRANSFORMERS[server.wire.transformer]
    requests = {f"odd: {name}": request for name, request in ODD.items()}
    requests |= {name: make(transformer) for name, make in POSTING.items()}
    unseen: dict[str, Counter[str]] = {}
    invented: dict[str, Counter[str]] = {}

    async with httpx.AsyncClient(trust_env=False, verify=False, timeout=30) as http:
        ran, (tried, applied) = await runs(node_client, server), await intents(http, proxy)
        for name, request in requests.items():
            await exchange(ways.proxied, at(ways, request))
            ran_now, (tried_now, applied_now) = await runs(node_client, server), await intents(http, proxy)
            if difference := (ran_now - ran) - (tried_now - tried):
                unseen[name] = difference
            if difference := (applied_now - applied) - (ran_now - ran):
                invented[name] = difference
            if name == "mutation":
                assert applied_now - applied == ran_now - ran == Counter({"echoMut": 1})
            ran, tried, applied = ran_now, tried_now, applied_now

    assert (unseen, invented) == ({}, {})
