"""`POST /v1/messages` and `/v1/messages/count_tokens`: the Anthropic paths."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.ingress.adapters.accounts import as_stream
from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.adapters.http.express import ExpressRoute
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import CallerOf, NamedBy
from services.ingress.adapters.http.streams import DRAIN, EventStream
from services.ingress.adapters.http.transport import (
    CLIENT_GONE,
    Json,
    framed,
    gathered,
    typed,
    unless_gone,
)
from services.ingress.core.http.problems import anthropic_error
from services.ingress.core.messages.body import CountBody, MessagesBody
from services.ingress.core.messages.events import PING
from services.ingress.ports import Chunks, MessagesApi

_HEARTBEAT = typed(PING)


def messages_router(messages: MessagesApi, metrics: Metrics) -> APIRouter:
    """Messages."""
    router = APIRouter(route_class=ExpressRoute, tags=["Anthropic"])

    @router.post("/v1/messages", summary="Answer messages, statelessly or by an agent")
    async def create(
        request: Request, body: MessagesBody, caller: CallerOf, named: NamedBy
    ) -> Response:
        if body.stream:
            if body.agent is not None:
                as_stream()
            streamed = await unless_gone(request, messages.stream(caller, body, named))
            if streamed is None:
                return Response(status_code=CLIENT_GONE)
            frames = _frames(streamed, metrics, trace_id_of(request.scope))
            # an agent's, too: these clients know no way to come back to one
            return EventStream(
                gathered(frames),
                _headers(request, streamed.headers),
                drain=DRAIN,
                heartbeat=_HEARTBEAT,
            )
        answer = await unless_gone(request, messages.answer(caller, body, named))
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        return Json(answer.body, headers=_headers(request, answer.headers))

    @router.post("/v1/messages/count_tokens", summary="How many tokens a model would read")
    async def count_tokens(request: Request, body: CountBody, caller: CallerOf) -> Response:
        counted = await unless_gone(request, messages.count(caller, body))
        if counted is None:
            return Response(status_code=CLIENT_GONE)
        return Json(counted, headers=_headers(request, {}))

    return router


def _headers(request: Request, own: Mapping[str, str]) -> dict[str, str]:
    """Anthropic's clients show the request's id; ours is the trace."""
    return {"request-id": trace_id_of(request.scope), **own}


def _frames(
    streamed: Chunks[dict[str, object]], metrics: Metrics, trace_id: str
) -> AsyncGenerator[bytes]:
    """Events under their names; a failure on the way is an `error` event."""
    opened = metrics.stream("task" if streamed.durable else "completion")
    return framed(
        opened, streamed.chunks, typed, lambda failure: typed(anthropic_error(failure, trace_id))
    )
