"""Around every request, outermost first: trace id, measurements, local callers only, body limit.

Plain ASGI: starlette's own base class would stand between a stream and its disconnect.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.ingress.adapters.http.errors import TRACE_KEY, refusal
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.transport import Refused
from services.ingress.core.caller import trace_of
from shared.clock import mint_id, monotonic
from shared.errors import Failure

_REQUESTS = frozenset({"http", "websocket"})
_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Trace:
    """Every answer carries the trace id: the caller's, else a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        minted = hashlib.blake2b(mint_id("trace").encode(), digest_size=16).hexdigest()
        trace_id = trace_of(Headers(scope=scope).get("traceparent")) or minted
        scope[TRACE_KEY] = trace_id

        async def sending(message: Message) -> None:
            if message["type"] in _STARTS:
                message.setdefault("headers", [])
                headers = MutableHeaders(raw=list(message["headers"]))
                headers["X-Trace-Id"] = trace_id
                headers["traceparent"] = f"00-{trace_id}-{trace_id[:16]}-01"
                message["headers"] = headers.raw
            await send(message)

        await self._app(scope, receive, sending)


class Measured:
    """Counts and times requests under the template of their route, never under their path."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in _REQUESTS:
            await self._app(scope, receive, send)
            return
        started = monotonic()
        method = scope.get("method", "WS")
        status, streams = 500, False

        async def sending(message: Message) -> None:
            nonlocal status, streams
            if message["type"] == "websocket.accept":
                status, streams = 101, True
            elif message["type"] in _STARTS:
                status = message["status"]
                kind = Headers(scope=message).get("content-type", "")
                streams = kind.startswith("text/event-stream")
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.answered(method, route, status)
            if not streams:
                self._metrics.took(method, route, monotonic() - started)


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
        failure = self._objection(Headers(scope=scope)) if asks else None
        if failure is not None:
            await refusal(scope, failure)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _objection(self, headers: Headers) -> Failure | None:
        host = headers.get("host", "")
        if not self._is_local(f"//{host}"):
            detail = f"without authentication this answers to local names only, not {host[:80]!r}"
            return Failure(code="foreign_host", detail=detail, field="Host")
        origin = headers.get("origin")
        if origin is not None and not self._is_local(origin):
            detail = f"without authentication pages of {origin[:80]!r} may not call this"
            return Failure(code="foreign_origin", detail=detail, field="Origin")
        return None

    def _is_local(self, url: str) -> bool:
        try:
            return urlsplit(url).hostname in self._names
        except ValueError:
            return False


class BodyLimit:
    """Stops reading a body that is too long, whatever its Content-Length says."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self._limit:
            await refusal(scope, self._failure())(scope, receive, send)
            return
        size = 0

        async def receiving() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise Refused(self._failure())
            return message

        await self._app(scope, receiving, send)

    def _failure(self) -> Failure:
        return Failure(code="body_too_large", detail=f"the body is longer than {self._limit} bytes")
