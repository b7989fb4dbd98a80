"""OpenTelemetry's SDK as it is set up here: its variables, its samplers, and its being away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from infra.local.broker import free_port
from shared.errors import Permanent
from shared.otlp import OtelSettings, live_spans, sdk
from shared.otlp.sdk import Live, Outbox, Spans, aside
from shared.trace import Happening, Span, TraceContext

PARENT = TraceContext("ab" * 16, "12" * 8)
SPAN = Span(
    name="chat nano", context=TraceContext("ab" * 16, "cd" * 8), start=1.5, end=2.75,
    service="inference", parent=PARENT, kind="client", error="engine_failed",
    attributes={"a": 1, "b": ("x", "y")}, events=(Happening("accepted", 1.75),),
)  # fmt: skip


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "TRACES_ENDPOINT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


def variables(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> OtelSettings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return OtelSettings()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_spans_are_wanted_where_there_is_somewhere_to_send_them(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], wanted: bool
) -> None:
    assert variables(monkeypatch, values).wanted is wanted


def test_nobody_makes_spans_that_nobody_wants() -> None:
    assert live_spans() is None


@pytest.mark.parametrize(
    ("value", "content"),
    [("", False), ("false", False), ("NO_CONTENT", False), ("EVENT_ONLY", False),
     ("true", True), ("SPAN_ONLY", True), ("SPAN_AND_EVENT", True)],
)  # fmt: skip
def test_content_is_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, value: str, content: bool
) -> None:
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert variables(monkeypatch, {name: value}).content is content


def test_a_variable_that_cannot_be_read_is_an_error_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"}
    variables(monkeypatch, values)
    with pytest.raises(Permanent) as refused:
        live_spans()
    assert refused.value.code == "invalid_setting"


def made(spans: Sequence[Span], settings: OtelSettings) -> list[ReadableSpan]:
    kept = Kept()
    maker = Spans(kept, settings)
    for span in spans:
        maker.record(span)
    return kept.ended


def test_a_span_is_made_as_it_is_said() -> None:
    (span,) = made([SPAN], OtelSettings())
    assert span.context
    assert span.parent
    assert f"{span.context.trace_id:032x}" == SPAN.context.trace_id
    assert f"{span.context.span_id:016x}" == SPAN.context.span_id
    assert f"{span.parent.span_id:016x}" == PARENT.span_id
    assert (span.start_time, span.end_time) == (1_500_000_000, 2_750_000_000)
    assert span.attributes == {"a": 1, "b": ("x", "y"), "error.type": "engine_failed"}
    assert [event.name for event in span.events] == ["accepted"]
    assert (span.status.is_ok, span.kind.name) == (False, "CLIENT")
    assert span.resource.attributes["service.name"] == "millrace-inference"


def test_the_service_has_the_name_that_the_variable_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    (span,) = made([SPAN], variables(monkeypatch, {"OTEL_SERVICE_NAME": "ours"}))
    assert span.resource.attributes["service.name"] == "ours"


@pytest.mark.parametrize(
    ("sampler", "argument", "parent", "kept"),
    [
        ("", "", None, True),
        ("always_off", "", None, False),
        ("parentbased_always_off", "", PARENT, True),
        ("parentbased_always_on", "", TraceContext("ab" * 16, "12" * 8, sampled=False), False),
        ("traceidratio", "0.0", PARENT, False),
        ("parentbased_traceidratio", "1.0", None, True),
    ],
)
def test_the_sampler_of_the_variable_decides(
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    argument: str,
    parent: TraceContext | None,
    kept: bool,
) -> None:
    values = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}
    settings = variables(monkeypatch, {name: value for name, value in values.items() if value})
    assert Spans(Kept(), settings).keeps("ab" * 16, parent, "x") is kept


def test_a_ratio_decides_alike_wherever_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    settings = variables(monkeypatch, values)
    traces = [f"{n:032x}" for n in range(1, 2**64, 2**58)]
    one, two = ([Spans(Kept(), settings).keeps(t, None, "x") for t in traces] for _ in range(2))
    assert one == two
    assert len(set(one)) == 2


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> OtelSettings:
    """A collector that is not there."""
    where = f"http://127.0.0.1:{free_port()}"
    return variables(monkeypatch, {"OTEL_EXPORTER_OTLP_ENDPOINT": where})


async def test_a_collector_that_is_away_is_nobodys_trouble(
    away: OtelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More spans than the queue holds are taken at once, and the end is bounded."""
    monkeypatch.setattr(sdk, "_LAST", 0.2)
    live = Live(away)
    for _ in range(2500):
        live.spans.record(SPAN)
    await live.close()


async def test_whoever_has_to_know_hears_that_it_is_away(away: OtelSettings) -> None:
    outbox = Outbox(away)
    assert await outbox.send([SPAN]) is False
    await outbox.close()


async def test_a_call_that_hangs_keeps_no_loop() -> None:
    """asyncio would join its own thread at the end of the loop."""
    hanging, threads = threading.Event(), []

    def call() -> None:
        threads.append(threading.current_thread())
        hanging.wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await aside(call)
    assert [thread.daemon for thread in threads] == [True]
    hanging.set()
