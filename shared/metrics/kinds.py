"""Counters, gauges and histograms with names, units and bounded labels, over prometheus-client.

A row of the catalogue says everything about a metric. Counting costs a look-up in a dictionary
beside the library's own work. No label can have more than `MOST` values: what comes later is
counted as `OTHER`, because a name that a client can choose must not be able to fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import prometheus_client as prometheus
from prometheus_client import CollectorRegistry

PREFIX = "millrace_"
MOST, OTHER = 100, "other"
EVERYBODY = ("*",)
"""Exported by every service."""
SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)
FINE = (0.0005, *SECONDS[:-3])
Kind = Literal["counter", "gauge", "histogram"]
_Child = prometheus.Counter | prometheus.Gauge | prometheus.Histogram


class Metric[C: _Child]:
    """What all kinds have in common. `of` names the services that export it.

    `known` are label values that are there from the start, at 0: a rate over a counter that only
    appears with its first event would miss that event.
    """

    kind: Kind

    def __init__(
        self,
        collector: C,
        help_: str,
        labels: tuple[str, ...],
        of: tuple[str, ...],
        known: Iterable[tuple[str, ...]],
    ) -> None:
        self.collector, self.help, self.labels, self.of = collector, help_, labels, of
        self._children: dict[tuple[str, ...], C] = {}
        self._seen: tuple[set[str], ...] = tuple(set() for _ in labels)
        for values in known:
            self.child(values)

    @property
    def name(self) -> str:
        """As it is exported; a histogram has `_bucket`, `_sum` and `_count` behind it."""
        base = next(iter(self.collector.describe())).name
        return f"{base}_total" if self.kind == "counter" else base

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which samples of it exist."""
        if self.kind == "histogram":
            return tuple(f"{self.name}{part}" for part in ("_bucket", "_count", "_sum"))
        return (self.name,)

    def child(self, values: tuple[str, ...] = ()) -> C:
        """The part with these label values; found once, it is found fast."""
        found = self._children.get(values)
        return self._make(values) if found is None else found

    def _make(self, values: tuple[str, ...]) -> C:
        bounded = tuple(map(_bounded, self._seen, values))
        found = self._children.get(bounded)
        if found is None:
            made = self.collector.labels(*bounded) if bounded else self.collector
            found = self._children[bounded] = cast("C", made)
        return found

    def keep(self, wanted: Iterable[tuple[str, ...]]) -> None:
        """Drop the labelled parts that are not among these, and make room for other names."""
        for values in self._children.keys() - set(wanted):
            self.collector.remove(*values)
            del self._children[values]
        for n, seen in enumerate(self._seen):
            seen.intersection_update([values[n] for values in self._children])


def _bounded(seen: set[str], value: str) -> str:
    if value in seen:
        return value
    if len(seen) >= MOST:
        return OTHER
    seen.add(value)
    return value


class Counter(Metric[prometheus.Counter]):
    """Only ever grows; its name ends with `_total`."""

    kind: Kind = "counter"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: tuple[str, ...] = (),
        *,
        of: tuple[str, ...],
        known: Iterable[tuple[str, ...]] = (),
    ) -> None:
        collector = prometheus.Counter(PREFIX + name, help_, labels, registry=None)
        super().__init__(collector, help_, labels, of, known)

    def add(self, *values: str, by: float = 1.0) -> None:
        """Count one, or more."""
        self.child(values).inc(by)


class Gauge(Metric[prometheus.Gauge]):
    """How something is now."""

    kind: Kind = "gauge"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: tuple[str, ...] = (),
        *,
        of: tuple[str, ...],
        known: Iterable[tuple[str, ...]] = (),
    ) -> None:
        collector = prometheus.Gauge(PREFIX + name, help_, labels, registry=None)
        super().__init__(collector, help_, labels, of, known)

    def set(self, value: float, *values: str) -> None:
        """It is this much."""
        self.child(values).set(value)

    def move(self, by: float, *values: str) -> None:
        """It is more, or less, by this much."""
        self.child(values).inc(by)

    def replace(self, found: dict[tuple[str, ...], float]) -> None:
        """These are all: what is not among them any more is gone."""
        self.keep(found)
        for values, value in found.items():
            self.child(values).set(value)


class Histogram(Metric[prometheus.Histogram]):
    """How long something took, in seconds."""

    kind: Kind = "histogram"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: tuple[str, ...] = (),
        *,
        of: tuple[str, ...],
        known: Iterable[tuple[str, ...]] = (),
        buckets: tuple[float, ...] = SECONDS,
    ) -> None:
        collector = prometheus.Histogram(
            PREFIX + name, help_, labels, buckets=buckets, registry=None
        )
        super().__init__(collector, help_, labels, of, known)

    def observe(self, seconds: float, *values: str) -> None:
        """It took this long; a clock that was set back makes it nothing, not less."""
        self.child(values).observe(max(0.0, seconds))


AnyMetric = Counter | Gauge | Histogram


def registered(metrics: Iterable[AnyMetric], service: str) -> CollectorRegistry:
    """A registry with those metrics that a service exports."""
    registry = CollectorRegistry()
    for metric in metrics:
        if metric.of == EVERYBODY or service in metric.of:
            registry.register(metric.collector)
    return registry
