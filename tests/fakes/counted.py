"""What a metric says now. Metrics are of the process, so tests look at how much they have moved."""

from __future__ import annotations

from shared.metrics.kinds import AnyMetric


def value(metric: AnyMetric, *labels: str, part: str = "") -> float:
    """The value of one series; `part` is `_count` or `_sum` of a histogram. 0 where it is not."""
    wanted = dict(zip(metric.labels, labels, strict=True))
    name = metric.name + part
    for family in metric.collect():
        for sample in family.samples:
            if sample.name == name and sample.labels == wanted:
                return float(sample.value)
    return 0.0


class Moved:
    """How much a series has moved since this was made."""

    def __init__(self, metric: AnyMetric, *labels: str, part: str = "") -> None:
        self._metric, self._labels, self._part = metric, labels, part
        self._before = self._now()

    def _now(self) -> float:
        return value(self._metric, *self._labels, part=self._part)

    @property
    def by(self) -> float:
        return self._now() - self._before
