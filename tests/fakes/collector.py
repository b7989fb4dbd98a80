"""A real OTLP/HTTP receiver: it decodes what it is sent, and can be slow, refuse, or be away."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Seen:
    """A span as it arrived; `start` and `end` in epoch seconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    service: str
    kind: int
    start: float
    end: float
    attributes: dict[str, object]
    failed: bool
    events: tuple[str, ...]

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass
class Collector:
    """What was received, and how it behaves. `status` answers every request."""

    url: str = ""
    status: int = 200
    delay: float = 0.0
    requests: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, name: str, trace_id: str = "") -> list[Seen]:
        return [one for one in self.spans if one.name == name and trace_id in ("", one.trace_id)]

    def of_task(self, task: str) -> list[Seen]:
        """By time, each span once: a trace may be told twice."""
        found = {
            one.span_id: one for one in self.spans if one.attributes.get("millrace.task") == task
        }
        return sorted(found.values(), key=lambda one: (one.start, one.end))

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            service = {one.key: one.value.string_value for one in group.resource.attributes}
            for scope in group.scope_spans:
                self.spans += [seen(span, service["service.name"]) for span in scope.spans]


def seen(span, service: str) -> Seen:
    return Seen(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        kind=span.kind,
        start=span.start_time_unix_nano / 1e9,
        end=span.end_time_unix_nano / 1e9,
        attributes={one.key: value_of(one.value) for one in span.attributes},
        failed=span.status.code == 2,
        events=tuple(one.name for one in span.events),
    )


def value_of(value) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, kind)


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """Listens on loopback; closed at the end, and then nobody answers there."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests += 1
            time.sleep(found.delay)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if found.status == 200:
                assert self.path == "/v1/traces"
                found.headers.append({name.lower(): value for name, value in self.headers.items()})
                found.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(found.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
