"""The span of a request, in the words of OpenTelemetry's HTTP conventions."""

from __future__ import annotations

from starlette.types import Scope

from services.ingress.adapters.http.errors import CODE_KEY
from services.ingress.adapters.http.recording import route_of
from shared.trace import Span, TraceContext, Value


def method_of(scope: Scope) -> str:
    """The method; a socket has none."""
    return str(scope.get("method", "WS"))


def request_span(
    scope: Scope,
    own: TraceContext,
    parent: TraceContext | None,
    status: int,
    times: tuple[float, float],
) -> Span:
    """A request that has ended, under the template of its route: paths name sessions and tasks.

    What the caller did wrong is no error of ours.
    """
    method, route = method_of(scope), route_of(scope)
    attributes: dict[str, Value] = {
        "http.request.method": "GET" if method == "WS" else method,
        "http.route": route,
        "http.response.status_code": status,
        "url.scheme": str(scope.get("scheme", "http")),
    }
    if code := str(scope.get(CODE_KEY, "")):
        attributes["millrace.code"] = code
    return Span(
        name=f"{method} {route}",
        context=own,
        start=times[0],
        end=times[1],
        service="ingress",
        parent=parent,
        kind="server",
        attributes=attributes,
        error=str(status) if status >= 500 else "",
    )
