"""`/v1/usage`, `/v1/requests`, and the lists of sessions and tasks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf, Wait
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.books.queries import (
    Name,
    RequestsParameters,
    SessionsParameters,
    TasksParameters,
    UsageParameters,
)
from services.ingress.handlers.usage import UsageHandlers
from shared.contracts.ledger import PATIENCE

_LONGEST = 60


def _patience(wait: int | None) -> float:
    """Seconds that an answer as new as `min_seq` demands is waited for."""
    return PATIENCE if wait is None else float(min(wait, _LONGEST))


def usage_router(api: UsageHandlers) -> APIRouter:
    """What was used, and by what."""
    router = APIRouter(route_class=JsonRoute, tags=["Usage"])

    @router.get("/v1/usage", summary="Tokens, money and times of model calls, grouped")
    async def usage(
        asked: Annotated[UsageParameters, Query()],
        caller: CallerOf,
        wait: Wait,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        query = asked.query(caller.tenant, _patience(wait))
        if "text/csv" in accept:
            return Response(await api.usage_csv(query), media_type="text/csv; charset=utf-8")
        return Json(await api.usage(query))

    @router.get("/v1/requests", summary="Tasks and completions, newest first")
    async def requests(
        asked: Annotated[RequestsParameters, Query()], caller: CallerOf, wait: Wait
    ) -> Response:
        return Json(await api.requests(asked.query(caller.tenant, _patience(wait))))

    @router.get("/v1/requests/{request}", summary="One line of the request log")
    async def request(request: str, caller: CallerOf, session: Name = None) -> Response:
        return Json(await api.request(caller, request, session))

    return router


def lists_router(api: UsageHandlers) -> APIRouter:
    """What there is, from the ledger; a single task or session is read from the log."""
    router = APIRouter(route_class=JsonRoute)

    @router.get("/v1/tasks", summary="Tasks, newest first", tags=["Tasks"])
    async def tasks(
        asked: Annotated[TasksParameters, Query()], caller: CallerOf, wait: Wait
    ) -> Response:
        return Json(await api.tasks(asked.query(caller.tenant, _patience(wait))))

    @router.get("/v1/sessions", summary="Sessions, touched last first", tags=["Sessions"])
    async def sessions(
        asked: Annotated[SessionsParameters, Query()], caller: CallerOf, wait: Wait
    ) -> Response:
        return Json(await api.sessions(asked.query(caller.tenant, _patience(wait))))

    return router
