"""Around every request, outermost first: trace id, measurements, local callers only, body limit.

Plain ASGI: starlette's own base class would stand between a stream and its disconnect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.adapters.http.errors import CODE_KEY, TRACE_KEY, refusal
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.recording import RECORDING_KEY, Recording, route_of
from services.ingress.adapters.http.spans import method_of, request_span
from services.ingress.adapters.http.transport import Refused
from services.ingress.adapters.records import JOURNAL, Journal
from services.ingress.core.access.memory import Held, Room
from shared.clock import mint_span, mint_trace, monotonic, now
from shared.errors import Failure, Transient
from shared.telemetry import serving
from shared.trace import TraceContext, context_of

if TYPE_CHECKING:
    from shared.otlp.sdk import Spans

_REQUESTS = frozenset({"http", "websocket"})
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines, to whom the answer is all."""
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """One header of a request or an answer, read without making a mapping of all of them."""
    for key, value in scope.get("headers", ()):
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def _all(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """Every value of a header."""
    return [bytes(value).decode("latin-1") for key, value in scope["headers"] if key == name]


GONE = 499
"""The status in a span of a request whose client went away."""


class Trace:
    """Every answer carries the trace id: the caller's, else a new one.

    Where anybody wants traces, `spans` is what the request is told to, as a span of its own below
    the caller's; what it submits is then below that one.
    """

    def __init__(self, app: ASGIApp, spans: Spans | None = None) -> None:
        self._app, self._spans = app, spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        parent = context_of(header(scope, b"traceparent"))
        trace_id = parent.trace_id if parent else mint_trace()
        scope[TRACE_KEY] = trace_id
        own = self._own(scope, trace_id, parent)
        told = own or parent or TraceContext(trace_id, trace_id[:16])
        if own or parent:
            serving(told)
        status, begun = 500, now()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] in _STARTS:
                status = message.get("status", 101)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-trace-id", trace_id.encode()),
                    (b"traceparent", str(told).encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = GONE  # nobody is there to be answered, and nothing of ours is wrong
        finally:
            if self._spans is not None and own is not None and own.sampled:
                self._spans.record(request_span(scope, own, parent, status, (begun, now())))

    def _own(self, scope: Scope, trace_id: str, parent: TraceContext | None) -> TraceContext | None:
        """The span of this request; None where nobody wants any, and for probes."""
        if self._spans is None or (parent is None and scope["path"] in _PROBES):
            return None
        kept = self._spans.keeps(trace_id, parent, method_of(scope))
        return TraceContext(trace_id, mint_span(), kept)


class Measured:
    """Counts and times requests under the template of their route, never under their path."""

    def __init__(self, app: ASGIApp, metrics: Metrics, recording: Recording | None = None) -> None:
        self._app, self._metrics, self._recording = app, metrics, recording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        seen = _Seen(self._metrics, scope)

        async def sending(message: Message) -> None:
            seen.sends(message)
            await send(message)

        scope[RECORDING_KEY], journal = self._recording, Journal()
        token = JOURNAL.set(journal)
        try:
            await self._app(scope, receive, sending)
        finally:
            JOURNAL.reset(token)
            seen.ended()
            if seen.status >= 400 and self._recording is not None and not journal.handed:
                self._recording.ended(scope, route_of(scope), seen.status)


class _Seen:
    """One request, as far as it has come."""

    __slots__ = ("_began", "_method", "_metrics", "_scope", "_started", "_streams", "status")

    def __init__(self, metrics: Metrics, scope: Scope) -> None:
        self._metrics, self._scope, self._started = metrics, scope, monotonic()
        self._method = scope.get("method", "WS")
        self.status, self._streams, self._began = 500, False, False

    def sends(self, message: Message) -> None:
        """A part of the answer goes out."""
        if message["type"] == "websocket.accept":
            self.status, self._streams = 101, True
        elif message["type"] in _STARTS:
            self.status = message["status"]
            kind = header(message, b"content-type") or ""
            self._streams = kind.startswith("text/event-stream")
        elif self._streams and not self._began and message.get("body"):
            self._began = True
            route, took = route_of(self._scope), monotonic() - self._started
            self._metrics.began(self._method, route, took)

    def ended(self) -> None:
        """Nothing more comes."""
        route = route_of(self._scope)
        self._metrics.answered(self._method, route, self.status)
        if not self._streams:
            self._metrics.took(self._method, route, monotonic() - self._started)
        if CODE_KEY in self._scope:
            self._metrics.refused(str(self._scope[CODE_KEY]))


class LocalOnly:
    """Without authentication only this machine's own programs may call, not its web pages.

    A page that the user visits can send requests to a loopback address (with its own Origin, or,
    after rebinding a name to it, with that name as Host), and it can open WebSockets, which no
    browser asks permission for. All of that is refused here.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = _LOCAL_NAMES | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        asks = scope["type"] in _REQUESTS
        failure = self._objection(scope) if asks else None
        if failure is not None:
            await refusal(scope, failure)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _objection(self, scope: Scope) -> Failure | None:
        host = ", ".join(_all(scope, b"host"))
        if "@" in host or not self._is_local(f"//{host}"):
            detail = f"without authentication this answers to local names only, not {host[:80]!r}"
            return Failure(code="foreign_host", detail=detail, field="Host")
        for origin in _all(scope, b"origin"):
            if not self._is_local(origin):
                detail = f"without authentication pages of {origin[:80]!r} may not call this"
                return Failure(code="foreign_origin", detail=detail, field="Origin")
        return None

    def _is_local(self, url: str) -> bool:
        try:
            return urlsplit(url).hostname in self._names
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Bodies:
    """Bounds of the bodies of requests."""

    limit: int = 16 << 20
    """Bytes of one."""
    seconds: float = 60.0
    """For a client to send one."""
    memory: int = 256 << 20
    """Bytes of all that are read at the same time."""


BODIES = Bodies()


class BodyLimit:
    """Stops reading a body that is too long, whatever its Content-Length says, or too slow, or for
    which there is no room.

    The room is free again when the answer begins: what an answer is made of is not its body.
    """

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self._app, self._limit, self._seconds = app, bodies.limit, bodies.seconds
        self._room = Room(bodies.memory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = header(scope, b"content-length") or ""
        length = int(declared[:20]) if declared.isascii() and declared.isdigit() else 0
        try:
            held = self._hold(length)
        except Refused as error:
            await refusal(scope, error.failure)(scope, receive, send)
            return
        whole, until = False, monotonic() + self._seconds

        async def receiving() -> Message:
            nonlocal whole
            if whole:  # what comes now is that the client goes, whenever that is
                return await receive()
            message = await self._in_time(receive, until)
            whole = not message.get("more_body", False)
            self._grow(held, len(message.get("body", b"")))
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.free()
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        finally:
            held.free()

    def _hold(self, length: int) -> Held:
        if length > self._limit:
            raise Refused(self._failure())
        try:
            return self._room.hold(length)
        except Transient as error:
            raise Refused(error.as_failure()) from None

    def _grow(self, held: Held, more: int) -> None:
        if held.size + more > self._limit:
            raise Refused(self._failure())
        try:
            held.grow(more)
        except Transient as error:
            raise Refused(error.as_failure()) from None

    async def _in_time(self, receive: Receive, until: float) -> Message:
        try:
            async with asyncio.timeout(until - monotonic()):
                return await receive()
        except TimeoutError:
            detail = f"the body did not come within {self._seconds:g} s"
            raise Refused(Failure(code="client_too_slow", detail=detail)) from None

    def _failure(self) -> Failure:
        return Failure(code="body_too_large", detail=f"the body is longer than {self._limit} bytes")
