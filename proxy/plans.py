"""What a request calls, and what the contract says of it: read once for each target and then remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from proxy.trpc.targets import Calls, NotCalls, Refused, Target, parse_target
from shadow.contract import Contract, Rule

MOST = 1024
"""How many targets are remembered, of those that the contract has a rule for; others are read each time."""

LONGEST_QUERY = 16
"""Bytes of a query in a target that is remembered: `batch=1`. In longer ones stand inputs, and no two are alike."""


class Plan(msgspec.Struct, frozen=True):
    """The calls of one target, each with its rule if the contract has one, and the phases of these in order."""

    calls: Calls
    rules: tuple[Rule | None, ...]
    phases: tuple[str, ...]
    mapped: bool
    """Whether the contract has a rule for every call."""


Planned: TypeAlias = Plan | NotCalls | Refused


class Plans:
    """Reads targets by one contract."""

    def __init__(self, contract: Contract, apart: Callable[[str], bool] = lambda path: False) -> None:
        """Procedures that are set `apart` are not the legacy's alone."""
        self._contract = contract
        self._apart = apart
        self._posted: dict[tuple[bytes, bytes], Planned] = {}
        self._ordinary: dict[bytes, bool] = {}

    def target(self, method: str, raw_path: bytes, query: bytes) -> Target:
        """Return which procedures a request names."""
        legacy = self._contract.legacy
        return parse_target(
            method,
            raw_path,
            query,
            base_path=legacy.base_path,
            separator=legacy.separator,
            procedures=self._contract.mutations,
        )

    def ordinary(self, raw_path: bytes) -> bool:
        """Tell whether this path, plainly written, names no procedure that is set apart, whatever its query."""
        known = self._ordinary.get(raw_path)
        if known is None:
            known = b"%" not in raw_path and not any(map(self._apart, self._names(raw_path)))
            if len(self._ordinary) < MOST:
                self._ordinary[raw_path] = known
        return known

    def _names(self, raw_path: bytes) -> set[str]:
        """Return every procedure that a path could name: alone, or as one of a batch."""
        targets = (self.target("GET", raw_path, query) for query in (b"", b"batch=1"))
        return {path for target in targets if isinstance(target, Calls) for path in target.paths}

    def post(self, raw_path: bytes, query: bytes) -> Planned:
        """Return what a POST calls, and what that means."""
        known = self._posted.get((raw_path, query))
        if known is not None:
            return known
        planned = self._planned(self.target("POST", raw_path, query))
        worthwhile = isinstance(planned, Plan) and bool(planned.phases) and len(query) <= LONGEST_QUERY
        if worthwhile and len(self._posted) < MOST:
            self._posted[raw_path, query] = planned
        return planned

    def _planned(self, target: Target) -> Planned:
        if not isinstance(target, Calls):
            return target
        rules = tuple([self._contract.mutations.get(path) for path in target.paths])
        return Plan(target, rules, tuple(sorted({rule.phase for rule in rules if rule is not None})), None not in rules)
