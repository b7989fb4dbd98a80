"""`/v1/schedules`: tasks at a time, at an interval or by cron."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.tasks.control import ScheduleBody
from services.ingress.ports import SchedulesApi


def schedules_router(schedules: SchedulesApi) -> APIRouter:
    """Store, show, remove."""
    router = APIRouter(route_class=JsonRoute, tags=["Schedules"])

    @router.put("/v1/schedules/{name}", summary="Store a schedule, or replace it")
    async def put(name: str, body: ScheduleBody, caller: CallerOf) -> Response:
        return Json(await schedules.put(caller, name, body))

    @router.get("/v1/schedules", summary="All schedules")
    async def ls(caller: CallerOf) -> Response:
        return Json(await schedules.list(caller))

    @router.get("/v1/schedules/{name}", summary="A schedule, and when it fires")
    async def get(name: str, caller: CallerOf) -> Response:
        return Json(await schedules.get(caller, name))

    @router.delete("/v1/schedules/{name}", summary="Remove a schedule")
    async def delete(name: str, caller: CallerOf) -> Response:
        return Json(await schedules.delete(caller, name))

    return router
