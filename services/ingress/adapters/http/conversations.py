"""`/v1/conversations` over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf, IdempotencyKey
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.http.pages import page_of
from services.ingress.core.responses.conversations import (
    ConversationCreateBody,
    ConversationUpdateBody,
    ItemsBody,
)
from services.ingress.ports import ConversationsApi

Limit = Annotated[int, Query(ge=1, le=100)]


def conversations_router(conversations: ConversationsApi) -> APIRouter:
    """The conversation itself."""
    router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])

    @router.post("/v1/conversations", summary="Begin a conversation")
    async def create(
        body: ConversationCreateBody, caller: CallerOf, key: IdempotencyKey
    ) -> Response:
        return Json(await conversations.create(caller, body, key))

    @router.get("/v1/conversations/{conversation_id}", summary="A conversation")
    async def get(conversation_id: str, caller: CallerOf) -> Response:
        return Json(await conversations.get(caller, conversation_id))

    @router.post("/v1/conversations/{conversation_id}", summary="Its metadata anew")
    async def update(
        conversation_id: str, body: ConversationUpdateBody, caller: CallerOf
    ) -> Response:
        return Json(await conversations.update(caller, conversation_id, body.metadata))

    @router.delete("/v1/conversations/{conversation_id}", summary="Forget a conversation")
    async def delete(conversation_id: str, caller: CallerOf) -> Response:
        return Json(await conversations.delete(caller, conversation_id))

    return router


def items_router(conversations: ConversationsApi) -> APIRouter:
    """What was said in it."""
    router = APIRouter(route_class=JsonRoute, tags=["OpenAI"])

    @router.post("/v1/conversations/{conversation_id}/items", summary="Set items down")
    async def add(
        conversation_id: str, body: ItemsBody, caller: CallerOf, key: IdempotencyKey
    ) -> Response:
        items = await conversations.add(caller, conversation_id, body, key)
        return Json(page_of(items, after=None, limit=len(items) or 1, order="asc"))

    @router.get("/v1/conversations/{conversation_id}/items", summary="Its items, page by page")
    async def items(
        conversation_id: str,
        caller: CallerOf,
        after: str | None = None,
        limit: Limit = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Response:
        found = await conversations.items(caller, conversation_id)
        return Json(page_of(found, after=after, limit=limit, order=order))

    @router.get("/v1/conversations/{conversation_id}/items/{item_id}", summary="An item")
    async def item(conversation_id: str, item_id: str, caller: CallerOf) -> Response:
        return Json(await conversations.item(caller, conversation_id, item_id))

    @router.delete("/v1/conversations/{conversation_id}/items/{item_id}", summary="Hide an item")
    async def remove(conversation_id: str, item_id: str, caller: CallerOf) -> Response:
        return Json(await conversations.remove(caller, conversation_id, item_id))

    return router
