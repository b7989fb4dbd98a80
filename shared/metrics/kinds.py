"""Counters, gauges and histograms with names, units and bounded labels.

A row of the catalogue says everything about a metric. prometheus-client shows the values, but they
are our own, because it takes a lock for each of them: here counting is a look-up in a dictionary
and an addition. Only the event loop's thread counts; the one that answers Prometheus reads.

No label can have more than `MOST` values: what comes later is counted as `OTHER`, because a name
that a client can choose must not be able to fill the memory.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

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
Values = tuple[str, ...]


class Number:
    """One series of a counter or a gauge."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Distribution:
    """One series of a histogram: how many were up to each bound, and beyond, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0


class Measure[S](Collector):
    """What all kinds have in common: series `S` by their label values. `of` names the services
    that export it.

    `known` are label values that are there from the start, at 0: a rate over a counter that only
    appears with its first event would miss that event.
    """

    kind: Kind

    def __init__(
        self,
        name: str,
        help_: str,
        labels: Values = (),
        *,
        of: Values,
        known: Iterable[Values] = (),
    ) -> None:
        self.name, self.help, self.labels, self.of = PREFIX + name, help_, labels, of
        self._series: dict[Values, S] = {}
        self._seen: tuple[set[str], ...] = tuple(set() for _ in labels)
        for values in known if labels else ((),):
            self.show(*values)

    @abstractmethod
    def _new(self) -> S:
        """A series at 0."""

    def show(self, *values: str) -> None:
        """Have this series there, at 0 where nothing was counted yet."""
        if values not in self._series:
            self._make(values)

    def _make(self, values: Values) -> S:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {len(values)}")
        bounded = tuple(map(_bounded, self._seen, values))
        found = self._series.get(bounded)
        if found is None:
            found = self._series[bounded] = self._new()
        return found

    def keep(self, wanted: Iterable[Values]) -> None:
        """Drop the series that are not among these, and make room for other names."""
        for values in self._series.keys() - set(wanted):
            del self._series[values]
        for n, seen in enumerate(self._seen):
            seen.intersection_update([values[n] for values in self._series])

    def found(self) -> list[tuple[Values, S]]:
        """All series there are now; a copy, since they grow under the thread that reads."""
        return list(self._series.items())

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which samples of it exist."""
        return (self.name,)


def _bounded(seen: set[str], value: str) -> str:
    if value in seen:
        return value
    if len(seen) >= MOST:
        return OTHER
    seen.add(value)
    return value


class Counter(Measure[Number]):
    """Only ever grows; its name ends with `_total`."""

    kind: Kind = "counter"

    def _new(self) -> Number:
        return Number()

    def add(self, *values: str, by: float = 1.0) -> None:
        """Count one, or more."""
        one = self._series.get(values)
        if one is None:
            one = self._make(values)
        one.value += by

    def mirror(self, total: float, *values: str) -> None:
        """Somebody else counts, and is at this; where they begin anew, whoever asks sees that."""
        one = self._series.get(values)
        if one is None:
            one = self._make(values)
        one.value = total

    def describe(self) -> Iterable[Metric]:
        """For the registry, which compares names."""
        return [CounterMetricFamily(self.name, self.help, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for values, one in self.found():
            family.add_metric(values, one.value)
        yield family


class Gauge(Measure[Number]):
    """How something is now."""

    kind: Kind = "gauge"

    def _new(self) -> Number:
        return Number()

    def set(self, value: float, *values: str) -> None:
        """It is this much."""
        one = self._series.get(values)
        if one is None:
            one = self._make(values)
        one.value = value

    def move(self, by: float, *values: str) -> None:
        """It is more, or less, by this much."""
        one = self._series.get(values)
        if one is None:
            one = self._make(values)
        one.value += by

    def replace(self, found: dict[Values, float]) -> None:
        """These are all: what is not among them any more is gone."""
        self.keep(found)
        for values, value in found.items():
            self.set(value, *values)

    def describe(self) -> Iterable[Metric]:
        """For the registry, which compares names."""
        return [GaugeMetricFamily(self.name, self.help, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for values, one in self.found():
            family.add_metric(values, float(one.value))
        yield family


class Histogram(Measure[Distribution]):
    """How long something took, in seconds."""

    kind: Kind = "histogram"

    def __init__(
        self,
        name: str,
        help_: str,
        labels: Values = (),
        *,
        of: Values,
        known: Iterable[Values] = (),
        buckets: tuple[float, ...] = SECONDS,
    ) -> None:
        self._bounds = buckets
        self._names = [*map(floatToGoString, buckets), "+Inf"]
        super().__init__(name, help_, labels, of=of, known=known)

    def _new(self) -> Distribution:
        return Distribution(len(self._bounds))

    def observe(self, seconds: float, *values: str) -> None:
        """It took this long; a clock that was set back makes it nothing, not less."""
        one = self._series.get(values)
        if one is None:
            one = self._make(values)
        if seconds > 0:
            one.total += seconds
        one.counts[bisect_left(self._bounds, seconds)] += 1

    @property
    def series(self) -> Values:
        """The names under which samples of it exist."""
        return tuple(f"{self.name}{part}" for part in ("_bucket", "_count", "_sum"))

    def describe(self) -> Iterable[Metric]:
        """For the registry, which compares names."""
        return [HistogramMetricFamily(self.name, self.help, labels=self.labels)]

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for values, one in self.found():
            upto = zip(self._names, accumulate(one.counts), strict=True)
            family.add_metric(values, [(bound, float(n)) for bound, n in upto], one.total)
        yield family


AnyMetric = Counter | Gauge | Histogram


def registered(metrics: Iterable[AnyMetric], service: str) -> CollectorRegistry:
    """A registry with those metrics that a service exports."""
    registry = CollectorRegistry()
    for metric in metrics:
        if metric.of == EVERYBODY or service in metric.of:
            registry.register(metric)
    return registry
