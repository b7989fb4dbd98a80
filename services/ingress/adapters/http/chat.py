"""`POST /v1/chat/completions`, `POST /v1/embeddings`, `GET /v1/models`: the OpenAI paths."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.ingress.adapters.accounts import as_stream
from services.ingress.adapters.http.errors import speaks_anthropic, trace_id_of
from services.ingress.adapters.http.express import ExpressRoute
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import (
    CallerOf,
    IdempotencyKey,
    PageOf,
    known_models,
)
from services.ingress.adapters.http.streams import DRAIN, EventStream
from services.ingress.adapters.http.transport import (
    CLIENT_GONE,
    DONE,
    Json,
    JsonRoute,
    framed,
    gathered,
    sse,
    unless_gone,
)
from services.ingress.core.catalog import anthropic_model, anthropic_page, find_model
from services.ingress.core.chat.body import ChatBody
from services.ingress.core.chat.chunks import Chunk
from services.ingress.core.embeddings import EmbeddingsBody
from services.ingress.core.http.problems import openai_error
from services.ingress.ports import Catalog, ChatApi, Chunks, EmbeddingsApi


def chat_router(chat: ChatApi, metrics: Metrics) -> APIRouter:
    """Completions."""
    router = APIRouter(route_class=ExpressRoute, tags=["OpenAI"])

    @router.post("/v1/chat/completions", summary="Complete a chat, statelessly or by an agent")
    async def completions(
        request: Request, body: ChatBody, caller: CallerOf, key: IdempotencyKey
    ) -> Response:
        if body.stream:
            if body.agent is not None:
                as_stream()
            streamed = await unless_gone(request, chat.stream(caller, body, key))
            if streamed is None:
                return Response(status_code=CLIENT_GONE)
            frames = _frames(streamed, metrics, trace_id_of(request.scope))
            drain = None if streamed.durable else DRAIN
            return EventStream(gathered(frames), streamed.headers, drain=drain)
        answer = await unless_gone(request, chat.answer(caller, body, key))
        if answer is None:
            return Response(status_code=CLIENT_GONE)
        return Json(answer.body, headers=answer.headers)

    return router


def _frames(streamed: Chunks[Chunk], metrics: Metrics, trace_id: str) -> AsyncGenerator[bytes]:
    """Chunks as server-sent events; a failure on the way is OpenAI's error object."""
    opened = metrics.stream("task" if streamed.durable else "completion")
    return framed(
        opened, streamed.chunks, sse, lambda failure: sse(openai_error(failure, trace_id)), DONE
    )


def models_router(catalog: Catalog, embedding: EmbeddingsApi) -> APIRouter:
    """What can be asked for, and embeddings."""
    router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])

    @router.get("/v1/models", summary="Routes, models of live workers, agents")
    async def list_models(request: Request, caller: CallerOf, page: PageOf) -> Response:
        """OpenAI's list; with the header `anthropic-version` a page of Anthropic's."""
        known = [
            one
            for one in await known_models(catalog, caller.tenant)
            if caller.may_use(str(one["id"]))
        ]
        if speaks_anthropic(request.headers):
            return Json(anthropic_page(known, page))
        return Json({"object": "list", "data": known})

    @router.get("/v1/models/{model:path}", summary="One of them")
    async def get_model(request: Request, model: str, caller: CallerOf) -> Response:
        caller.check_model(model)
        found = find_model(model, await known_models(catalog, caller.tenant))
        return Json(anthropic_model(found) if speaks_anthropic(request.headers) else found)

    @router.post("/v1/embeddings", summary="Texts to vectors")
    async def embed(request: Request, body: EmbeddingsBody, caller: CallerOf) -> Response:
        work = embedding.embed(caller, body)
        answer = await (unless_gone(request, work) if embedding.may_abort(body) else work)
        return Response(status_code=CLIENT_GONE) if answer is None else Json(answer)

    return router
