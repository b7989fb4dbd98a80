"""What is measured of HTTP: requests, how long they take, streams that are open, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import generate_latest

from shared.metrics.catalogue import (
    HTTP_FIRST_BYTE,
    HTTP_REFUSALS,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    HTTP_STREAMS,
)
from shared.metrics.exporter import registry_of


class Metrics:
    """The measurements of one process."""

    def __init__(self) -> None:
        self._registry = registry_of("ingress")

    def answered(self, method: str, route: str, status: int) -> None:
        """Count a request."""
        HTTP_REQUESTS.add(method, route, str(status))

    def took(self, method: str, route: str, seconds: float) -> None:
        """Record how long a request took."""
        HTTP_SECONDS.observe(seconds, method, route)

    def began(self, method: str, route: str, seconds: float) -> None:
        """Record how long it took until the first event of a stream."""
        HTTP_FIRST_BYTE.observe(seconds, method, route)

    def refused(self, code: str) -> None:
        """Count an answer that is an error, by its code."""
        HTTP_REFUSALS.add(code)

    @contextmanager
    def stream(self, kind: str) -> Iterator[None]:
        """Count a stream as open meanwhile."""
        HTTP_STREAMS.move(1, kind)
        try:
            yield
        finally:
            HTTP_STREAMS.move(-1, kind)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
