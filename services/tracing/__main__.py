"""Composition root of the tracing service: `python -m services.tracing [--print-settings]`."""

from __future__ import annotations

import asyncio

from services.tracing.adapters.collector import OtlpCollector, Told
from services.tracing.adapters.log import BusTaskLog
from services.tracing.handlers import Tracing
from services.tracing.settings import TracingSettings
from shared import clock
from shared.bus.connect import Bus
from shared.bus.consume import Consuming, Delivery, Job
from shared.bus.service import run_service, running
from shared.contracts.log import StoredFact, read_fact
from shared.errors import Permanent
from shared.otlp import OtelSettings, outbox
from shared.subjects import TRACES
from shared.telemetry import Log

CONCURRENCY = 64
"""Traces that are told side by side."""


async def serve(otel: OtelSettings, bus: Bus, stop: asyncio.Event) -> None:
    """Tell of every task that ends, until told to stop."""
    collector = OtlpCollector(outbox(otel), told(bus.log))
    tracing = Tracing(BusTaskLog(bus), collector, clock.now, content=otel.content)
    async with running(bus, collector, Consuming(bus, job(tracing), CONCURRENCY)):
        bus.log.info("tracing.ready")
        await stop.wait()


def told(log: Log) -> Told:
    """Who hears how it goes with the collector: the log, once for each change."""
    return Told(
        away=lambda: log.warning("collector.away"),
        back=lambda: log.info("collector.back"),
        given_up=lambda trace: log.warning("trace.refused", trace_id=trace),
    )


def job(tracing: Tracing) -> Job[StoredFact]:
    """What to do with the messages of consumer TRACES."""

    async def emit(_done: StoredFact, _results: object) -> None:
        """Nothing is published."""

    return Job(TRACES, read, tracing.ended, emit)


def read(delivery: Delivery) -> StoredFact:
    """A delivery as the end of a task.

    Raises:
        Permanent: it is none.
    """
    found = read_fact(
        delivery.subject, delivery.body, delivery.sequence, delivery.time, delivery.headers
    )
    if found is None:
        raise Permanent("invalid_message", f"{delivery.subject} is no fact of ours")
    return found


def main() -> None:
    """Run the service.

    Raises:
        Permanent: `tracing_off` where no collector is named.
    """

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        otel = OtelSettings()
        if not otel.wanted:
            raise Permanent(
                "tracing_off",
                "there is nobody to send traces to: set OTEL_EXPORTER_OTLP_ENDPOINT",
                field="OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        await serve(otel, bus, stop)

    run_service("tracing", TracingSettings(), compose)


if __name__ == "__main__":
    main()
