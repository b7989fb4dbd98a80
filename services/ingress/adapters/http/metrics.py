"""What is measured: requests, how long they take, streams that are open. One registry per app.

millrace_http_requests_total{method,route,status}
millrace_http_request_seconds{method,route}        to the last byte; streams excluded
millrace_http_streams_open{kind}                   kind: completion, task, session, socket
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The measurements of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "millrace_http_requests",
            "HTTP requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "millrace_http_request_seconds",
            "Seconds from the request to the last byte of its answer, streams excluded",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "millrace_http_streams_open", "Open streams", ("kind",), registry=self._registry
        )
        self._counted: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[tuple[str, str], Histogram] = {}
        for kind in ("completion", "task", "session", "socket"):
            self._streams.labels(kind)

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a request."""
        key = method, route, status
        counter = self._counted.get(key)
        if counter is None:  # finding it by its labels costs more than counting
            counter = self._counted[key] = self._requests.labels(method, route, str(status))
        counter.inc()

    def took(self, method: str, route: str, seconds: float) -> None:
        """Record how long a request took."""
        key = method, route
        histogram = self._timed.get(key)
        if histogram is None:
            histogram = self._timed[key] = self._seconds.labels(method, route)
        histogram.observe(seconds)

    @contextmanager
    def stream(self, kind: str) -> Iterator[None]:
        """Count a stream as open meanwhile."""
        gauge = self._streams.labels(kind)
        gauge.inc()
        try:
            yield
        finally:
            gauge.dec()

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
