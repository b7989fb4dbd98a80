"""`/v1/responses` over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.ingress.adapters.accounts import as_stream
from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import CallerOf, IdempotencyKey
from services.ingress.adapters.http.streams import DRAIN, EventStream
from services.ingress.adapters.http.transport import (
    CLIENT_GONE,
    Json,
    JsonRoute,
    framed,
    typed,
    unless_gone,
)
from services.ingress.core.http.pages import page_of
from services.ingress.core.http.problems import openai_error
from services.ingress.core.responses.body import ResponseBody
from services.ingress.ports import Opened, ResponsesApi
from shared.errors import Failure

After = Annotated[int, Query(ge=0, description="the number of the last event seen")]


def responses_router(responses: ResponsesApi, metrics: Metrics) -> APIRouter:
    """Create, look, follow."""
    router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])

    @router.post("/v1/responses", summary="Ask a model or an agent; durable, and resumable")
    async def create(
        request: Request, body: ResponseBody, caller: CallerOf, key: IdempotencyKey
    ) -> Response:
        if body.stream:
            as_stream()
        opened = await responses.create(caller, body, key)
        if body.stream:
            frames = _frames(responses, opened, -1, metrics, trace_id_of(request.scope))
            drain = None if opened.stored else DRAIN
            return EventStream(frames, _headers(opened), drain=drain)
        if body.background:
            return Json(await responses.now(opened), headers=_headers(opened))
        answer = await unless_gone(request, responses.answer(opened))
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        return Json(answer, headers=_headers(opened))

    @router.get("/v1/responses/{response_id}", summary="A response, or its events again")
    async def get(
        request: Request,
        response_id: str,
        caller: CallerOf,
        stream: bool = False,
        starting_after: After | None = None,
    ) -> Response:
        if not stream:
            return Json(await responses.get(caller, response_id))
        as_stream()
        opened = await responses.resume(caller, response_id)
        after = -1 if starting_after is None else starting_after
        frames = _frames(responses, opened, after, metrics, trace_id_of(request.scope))
        return EventStream(frames, _headers(opened), drain=None)

    return router


def stored_router(responses: ResponsesApi) -> APIRouter:
    """Stop, forget, and look at what one was asked."""
    router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])

    @router.delete("/v1/responses/{response_id}", summary="Forget a response")
    async def delete(response_id: str, caller: CallerOf) -> Response:
        return Json(await responses.delete(caller, response_id))

    @router.post("/v1/responses/{response_id}/cancel", summary="Stop a response")
    async def cancel(response_id: str, caller: CallerOf) -> Response:
        return Json(await responses.cancel(caller, response_id))

    @router.get("/v1/responses/{response_id}/input_items", summary="What it was asked")
    async def input_items(
        response_id: str,
        caller: CallerOf,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        items = await responses.input_items(caller, response_id)
        return Json(page_of(items, after=after, limit=limit, order=order))

    return router


def _headers(opened: Opened) -> dict[str, str]:
    return {"Millrace-Task": opened.task.id, "Millrace-Session": opened.task.session}


def _frames(
    responses: ResponsesApi, opened: Opened, after: int, metrics: Metrics, trace_id: str
) -> AsyncGenerator[bytes]:
    """Typed events as server-sent events; a failure on the way is an `error` event."""
    events = responses.events(opened, after)
    return framed(
        metrics.stream("task"), events, typed, lambda failure: typed(error_event(failure, trace_id))
    )


def error_event(failure: Failure, trace_id: str) -> dict[str, object]:
    """Why a stream ends before its response; it has no place in the log, and no number of it."""
    body = openai_error(failure, trace_id)["error"]
    known = body if isinstance(body, dict) else {}
    named = {name: known.get(name) for name in ("code", "message", "param")}
    return {"type": "error", "sequence_number": 0, **named, "error": body}
