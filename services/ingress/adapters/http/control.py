"""`/v1/tasks/{id}/{steer,approve,reject,retry}`: durable control over HTTP."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf, IdempotencyKey
from services.ingress.adapters.http.tasks import SessionHint
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.tasks.control import ApproveBody, RejectBody, RetryBody, SteerBody
from services.ingress.ports import ControlApi, TaskHandle, TasksApi


def control_router(tasks: TasksApi, control: ControlApi) -> APIRouter:
    """The verbs; each answers 202 with the sequence of the fact that records it."""
    router = APIRouter(route_class=JsonRoute, tags=["Tasks"])

    @router.post("/v1/tasks/{task}/steer", status_code=202, summary="Say something to a task")
    async def steer(
        task: str,
        body: SteerBody,
        caller: CallerOf,
        key: IdempotencyKey,
        session: SessionHint = None,
    ) -> Response:
        handle = await tasks.find(caller, task, session)
        return _recorded(handle, await control.steer(caller, handle, body, key))

    @router.post("/v1/tasks/{task}/approve", status_code=202, summary="Let a parked step go on")
    async def approve(
        task: str, caller: CallerOf, body: ApproveBody | None = None, session: SessionHint = None
    ) -> Response:
        handle = await tasks.find(caller, task, session)
        return _recorded(handle, await control.approve(handle, body or ApproveBody()))

    @router.post("/v1/tasks/{task}/reject", status_code=202, summary="Do not let it go on")
    async def reject(
        task: str, caller: CallerOf, body: RejectBody | None = None, session: SessionHint = None
    ) -> Response:
        handle = await tasks.find(caller, task, session)
        return _recorded(handle, await control.reject(handle, body or RejectBody()))

    @router.post("/v1/tasks/{task}/retry", status_code=202, summary="Go on where a task failed")
    async def retry(
        task: str,
        caller: CallerOf,
        key: IdempotencyKey,
        body: RetryBody | None = None,
        session: SessionHint = None,
    ) -> Response:
        handle = await tasks.find(caller, task, session)
        new = await control.retry(caller, handle, body or RetryBody(), key)
        links = {"task": new.id, "session": new.session, "events": f"/v1/tasks/{new.id}/events"}
        headers = {"Location": f"/v1/tasks/{new.id}"}
        return Json(links | {"retry_of": handle.id}, 202, headers)

    return router


def _recorded(task: TaskHandle, sequence: int) -> Response:
    return Json({"task": task.id, "session": task.session, "sequence": sequence}, 202)
