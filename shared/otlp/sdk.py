"""What OpenTelemetry's SDK does for us: sampling, the form of spans, sending them.

Nothing here waits on the event loop: requests are made by threads of their own, which no shutdown
waits for longer than it wants to.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from shared.otlp import OtelSettings
from shared.trace import Span, TraceContext

SCOPE = "millrace"
_LAST = 2.0
"""Seconds that the last spans have when the process ends."""


class _Given(IdGenerator):
    """The ids of the span that is being made."""

    context = TraceContext("1", "1")

    def generate_trace_id(self) -> int:
        """That of the span."""
        return int(self.context.trace_id, 16)

    def generate_span_id(self) -> int:
        """The span's own."""
        return int(self.context.span_id, 16)


class Spans:
    """Makes spans of values, under the ids that they have, and hands them to a processor.

    What is to be kept is asked beforehand (`keeps`), once for a whole trace: it is the sampler of
    `OTEL_TRACES_SAMPLER` that says so.
    """

    def __init__(self, processor: SpanProcessor, settings: OtelSettings) -> None:
        self._ids, self._processor, self._settings = _Given(), processor, settings
        self._sampler = TracerProvider(shutdown_on_exit=False).sampler
        self._tracers: dict[str, Tracer] = {}

    def keeps(self, trace_id: str, parent: TraceContext | None, name: str) -> bool:
        """Whether a trace is kept that begins with a span of this name, below `parent`."""
        found = self._sampler.should_sample(_within(parent), int(trace_id, 16), name)
        return found.decision is Decision.RECORD_AND_SAMPLE

    def record(self, span: Span) -> None:
        """Hand on a span that has ended and is to be kept."""
        self._ids.context = span.context
        made = self._tracer(span.service).start_span(
            span.name,
            context=_within(span.parent),
            kind=SpanKind[span.kind.upper()],
            attributes=dict(span.attributes),
            start_time=_nanoseconds(span.start),
        )
        for event in span.events:
            made.add_event(event.name, dict(event.attributes), _nanoseconds(event.time))
        if span.error:
            made.set_attribute("error.type", span.error)
            made.set_status(Status(StatusCode.ERROR))
        made.end(_nanoseconds(max(span.start, span.end)))

    def _tracer(self, service: str) -> Tracer:
        if service not in self._tracers:
            name = self._settings.service_name or f"millrace-{service}"
            resource = Resource.create({"service.name": name, "service.namespace": "millrace"})
            provider = TracerProvider(
                ALWAYS_ON, resource, shutdown_on_exit=False, id_generator=self._ids
            )
            provider.add_span_processor(self._processor)
            self._tracers[service] = provider.get_tracer(SCOPE)
        return self._tracers[service]


class Live:
    """Spans of what this process does itself: collected, and sent now and then.

    Where the collector is away or slow they wait in a bounded queue, and then they are dropped.
    """

    def __init__(self, settings: OtelSettings) -> None:
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        self.spans = Spans(self._processor, settings)

    async def close(self) -> None:
        """Send what is left, within a bound."""
        await _bounded(self._processor.shutdown)


class _Collected(SpanProcessor):
    """Keeps what has ended, until it is taken."""

    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it."""
        self.ended.append(span)


class Outbox:
    """Spans of somebody who has to know that they have arrived."""

    def __init__(self, settings: OtelSettings) -> None:
        self._exporter, self._collected = OTLPSpanExporter(), _Collected()
        self.spans = Spans(self._collected, settings)

    async def send(self, spans: Sequence[Span]) -> bool:
        """Whether the collector took them all.

        That takes as long as `OTEL_EXPORTER_OTLP_TIMEOUT` at most, in which it is asked again.
        """
        for span in spans:
            self.spans.record(span)
        ended, self._collected.ended = self._collected.ended, []
        outcome = await aside(lambda: self._exporter.export(ended))
        return outcome is SpanExportResult.SUCCESS

    async def close(self) -> None:
        """A request under way is given up."""
        await _bounded(self._exporter.shutdown)


async def _bounded(last: Callable[[], None]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST):
            await aside(last)


async def aside[T](call: Callable[[], T]) -> T | None:
    """The result of a call that waits for others, made by a thread that no exit waits for.

    asyncio's own threads are joined at the end of the loop, however long they take. None where the
    call failed, which its thread tells.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T | None] = loop.create_future()

    def settle(value: T | None) -> None:
        if not result.done():
            result.set_result(value)

    def run() -> None:
        value: T | None = None
        try:
            value = call()
        finally:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=run, name="otlp", daemon=True).start()
    return await result


def _within(parent: TraceContext | None) -> Context:
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
    where = SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, flags)
    return set_span_in_context(NonRecordingSpan(where), Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000
