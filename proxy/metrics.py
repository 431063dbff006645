"""What the proxy counts, for `/metrics` (Prometheus text format) and `changeover status`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from proxy.doubt import Standing
from shadow.journal import Outcome


class Counts(Collector):
    """Counters that only the event loop counts: a look-up and an addition, without the lock of prometheus' own."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...] = ()) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self.counts: dict[tuple[str, ...], int] = defaultdict(int)
        """How often each combination of the labels' values was counted."""

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return what was counted up to now."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for values, count in self.counts.items():
            family.add_metric(values, count)
        return [family]


class Metrics:
    """The proxy's counters; labels are bound once, so that counting costs a dictionary look-up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._mutations = self._count_by(
            "changeover_mutations", "Mutations by procedure and outcome.", ("procedure", "outcome", "mapped")
        )
        self._passed = Counter(
            "changeover_not_mirrored",
            "Requests that may have changed something and were not mirrored, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._forwarded = self._count_by("changeover_forwarded", "Requests passed through untouched.")
        self._forwarded.counts[()] = 0
        self._differing = Gauge(
            "changeover_reconcile_differing",
            "Entities that differed at the last exact check of a phase.",
            ("phase",),
            registry=self.registry,
        )
        self._coverage = Gauge(
            "changeover_reconcile_coverage",
            "The share of the planned comparisons of a phase's last check that were exact.",
            ("phase",),
            registry=self.registry,
        )
        self._checked = Gauge(
            "changeover_reconcile_timestamp_seconds",
            "When the last exact check of a phase ended, in Unix time.",
            ("phase",),
            registry=self.registry,
        )
        self.readers = Gauge("changeover_readers", "Subscribers connected now.", registry=self.registry)
        self._reason = cache(self._passed.labels)

    def mutation(self, procedure: str, outcome: Outcome | str, *, mapped: bool) -> None:
        """Count one mutation with its outcome, or with what the spool has of it."""
        self._mutations.counts[procedure, outcome, "yes" if mapped else "no"] += 1

    def _count_by(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Counts:
        counts = Counts(name, about, labels)
        self.registry.register(counts)
        return counts

    def not_mirrored(self, reason: str) -> None:
        """Count one request that could not be mirrored."""
        self._reason(reason).inc()

    def not_mirrored_counts(self) -> dict[str, int]:
        """Return how many requests could not be mirrored, by reason."""
        return {
            sample.labels["reason"]: round(sample.value)
            for family in self._passed.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }

    def forwarded(self) -> None:
        """Count one request that was passed through."""
        self._forwarded.counts[()] += 1

    def reconciled(self, phase: str, *, differing: int, coverage: float, finished: int) -> None:
        """Show what a phase's newest exact check found; `finished` is in milliseconds."""
        self._differing.labels(phase).set(differing)
        self._coverage.labels(phase).set(coverage)
        self._checked.labels(phase).set(finished / 1000)

    def watch_doubts(self, standing: Callable[[], Standing], clock: Callable[[], int]) -> None:
        """Show how many calls are in doubt and how long the oldest one has been, whenever somebody asks."""

        def age() -> float:
            oldest = standing().oldest
            return 0.0 if oldest is None else max(0.0, (clock() - oldest) / 1000)

        for name, about, value in (
            ("changeover_doubts", "Calls of which nobody knows whether they were applied.", lambda: standing().doubts),
            ("changeover_doubts_quarantined", "Those that cannot be resolved.", lambda: standing().quarantined),
            ("changeover_oldest_doubt_seconds", "How long the oldest call has been in doubt.", age),
        ):
            Gauge(name, about, registry=self.registry).set_function(value)

    def watch_spool(self, waiting: Callable[[], int]) -> None:
        """Show how many calls wait in the spool, whenever somebody asks."""
        gauge = Gauge("changeover_spooled", "Calls that wait for the log in the spool.", registry=self.registry)
        gauge.set_function(waiting)

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
