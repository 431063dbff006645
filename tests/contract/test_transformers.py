"""Our superjson and devalue agree with the packages that the legacy and its clients run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.trpc.transformers import DEVALUE, SUPERJSON, TRANSFORMERS, UNDEFINED
from proxy.trpc.values import Tagged, plain
from tests.support.node import ROOT, start_node, stop
from tests.unit.proxy.trpc.test_superjson import KEYS, SCALARS

PACKAGES = ROOT / "examples" / "legacy" / "node_modules"


class Javascript:
    """A Node process that runs the real packages."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert "error" not in answer, answer
        return answer


@pytest.fixture(scope="module", name="javascript")
def _javascript(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Javascript]:
    if not (PACKAGES / "superjson").exists():
        missing = f"the real superjson and devalue are not in {PACKAGES}; run `make setup`"
        if os.environ.get("CHANGEOVER_REQUIRE") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    errors = tmp_path_factory.mktemp("transformers") / "node.log"
    process = start_node(ROOT / "tests" / "support" / "transformers.mjs", stderr=errors, stdin=True)
    yield Javascript(process)
    stop(process)


@pytest.mark.parametrize("transformer", ["superjson", "devalue"])
def test_reads_whatever_the_real_package_writes(javascript: Javascript, transformer: str) -> None:
    codec = TRANSFORMERS[transformer]
    written = javascript.ask(transformer=transformer)

    assert len(written) > 15
    for case in written:
        expected = case.get("plain", UNDEFINED)
        assert as_doubles(codec.plain(case["wire"])) == as_doubles(expected), case["name"]
        if case["name"] not in {"cyclic", "far"}:
            again = javascript.ask(transformer=transformer, wire=codec.encode(codec.decode(case["wire"])))
            assert as_doubles(again.get("plain", UNDEFINED)) == as_doubles(expected), case["name"]


def as_doubles(value: Any) -> Any:
    """JavaScript reads every number as a double, and writes large ones with other digits than Python."""
    if isinstance(value, list):
        return [as_doubles(item) for item in value]
    if isinstance(value, dict):
        return {key: as_doubles(member) for key, member in value.items()}
    if isinstance(value, Tagged):
        return Tagged(value.tag, as_doubles(value.value))
    return float(value) if type(value) is int else value


def values(set_tag: str, map_tag: str) -> st.SearchStrategy[Any]:
    unique = st.lists(st.integers(0, 9) | st.text("ab", max_size=2), unique_by=repr, max_size=3)
    return st.recursive(
        SCALARS,
        lambda each: (
            st.lists(each, max_size=3)
            | st.dictionaries(KEYS, each, max_size=3)
            | unique.map(lambda items: Tagged(set_tag, items))
            | st.dictionaries(st.text("ab", max_size=2), each, max_size=2).map(
                lambda pairs: Tagged(map_tag, [list(pair) for pair in pairs.items()])
            )
        ),
        max_leaves=10,
    )


FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(value=values("set", "map"))
def test_superjson_reads_what_we_write_and_writes_what_we_read(javascript: Javascript, value: object) -> None:
    wire: Any = SUPERJSON.encode(value)
    theirs = javascript.ask(transformer="superjson", wire=wire)

    assert as_doubles(theirs.get("plain", UNDEFINED)) == as_doubles(plain(value))
    assert as_doubles(SUPERJSON.decode(theirs["wire"])) == as_doubles(value)
    assert "meta" not in theirs["wire"] or theirs["wire"]["meta"].get("values") == wire.get("meta", {}).get("values")


@FEW
@given(value=values("Set", "Map"))
def test_devalue_reads_what_we_write_and_writes_what_we_read(javascript: Javascript, value: object) -> None:
    theirs = javascript.ask(transformer="devalue", wire=DEVALUE.encode(value))

    assert as_doubles(theirs.get("plain", UNDEFINED)) == as_doubles(plain(value))
    assert as_doubles(DEVALUE.decode(theirs["wire"])) == as_doubles(value)
