"""`/v1/sessions/{id}/fork`: go on from a step of a session, in a new one."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.tasks.bodies import ForkBody
from services.ingress.ports import TasksApi


def forks_router(tasks: TasksApi) -> APIRouter:
    """Fork a session."""
    router = APIRouter(route_class=JsonRoute, tags=["Sessions"])

    @router.post("/v1/sessions/{session}/fork", status_code=202, summary="Go on from a step")
    async def fork(session: str, body: ForkBody, caller: CallerOf) -> Response:
        made = await tasks.fork(caller, session, body)
        return Json(made, 202, {"Location": f"/v1/sessions/{made['session']}"})

    return router
