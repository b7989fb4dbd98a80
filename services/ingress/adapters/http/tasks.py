"""`/v1/tasks` and `/v1/sessions`: durable work over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.adapters.http.metrics import Metrics
from services.ingress.adapters.http.request import CallerOf, IdempotencyKey, Wait
from services.ingress.adapters.http.streams import EventStream
from services.ingress.adapters.http.transport import (
    CLIENT_GONE,
    Json,
    JsonRoute,
    framed,
    sse,
    unless_gone,
)
from services.ingress.core.http.problems import problem_details
from services.ingress.core.tasks.bodies import CancelBody, TaskBody
from services.ingress.core.tasks.events import EventJson
from services.ingress.ports import TaskHandle, TasksApi
from shared.contracts.log import Event
from shared.errors import Failure

SessionHint = Annotated[
    str | None, Query(description="the task's session, where it is known: saves a look-up")
]


def tasks_router(tasks: TasksApi) -> APIRouter:
    """Submit, look, cancel."""
    router = APIRouter(route_class=JsonRoute, tags=["Tasks"])

    @router.post("/v1/tasks", status_code=202, summary="Submit a task to an agent")
    async def submit(
        request: Request, body: TaskBody, caller: CallerOf, key: IdempotencyKey, wait: Wait
    ) -> Response:
        task = await tasks.submit(caller, body, key)
        links = {"task": task.id, "session": task.session, "events": _events_path(task)}
        headers = {"Location": f"/v1/tasks/{task.id}"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
            ended = await unless_gone(request, tasks.wait(task, wait))
            if ended is None:
                return Response(status_code=CLIENT_GONE)
            if ended:
                state = await tasks.state(caller, task)
                return Json(state | links, headers=headers)
        return Json(links, 202, headers)

    @router.get("/v1/tasks/{task}", summary="The state of a task")
    async def state(task: str, caller: CallerOf, session: SessionHint = None) -> Response:
        return Json(await tasks.state(caller, await tasks.find(caller, task, session)))

    @router.post("/v1/tasks/{task}/cancel", status_code=202, summary="Stop a task")
    async def cancel(
        task: str, caller: CallerOf, body: CancelBody | None = None, session: SessionHint = None
    ) -> Response:
        handle = await tasks.find(caller, task, session)
        sequence = await tasks.cancel(handle, body or CancelBody())
        return Json({"task": handle.id, "session": handle.session, "sequence": sequence}, 202)

    return router


After = Annotated[str, Query(max_length=200, description="id of the last event seen")]
LastEventId = Annotated[str, Header(max_length=200)]
_RETRY_MS = 1000
"""When an EventSource comes back after its stream has ended."""


def events_router(tasks: TasksApi, metrics: Metrics) -> APIRouter:
    """Follow a task, or all of a session."""
    router = APIRouter(route_class=JsonRoute)
    shown = EventJson()

    @router.get(
        "/v1/tasks/{task}/events",
        tags=["Tasks"],
        summary="Facts and tokens of a task, as they happen",
    )
    async def events(
        request: Request,
        task: str,
        caller: CallerOf,
        session: SessionHint = None,
        after: After = "",
        last_event_id: LastEventId = "",
    ) -> Response:
        cursor = last_event_id or after
        handle = await tasks.find(caller, task, session)
        if await tasks.ended_before(caller, handle, cursor):
            return Response(status_code=204)  # tells an EventSource not to come again
        trace_id = trace_id_of(request.scope)
        opened = metrics.stream("task")
        frames = _frames(handle.events(cursor), shown, opened, trace_id)
        return EventStream(frames, {}, drain=None)

    @router.get(
        "/v1/sessions/{session}/events",
        tags=["Sessions"],
        summary="Facts and tokens of all tasks of a session, as they happen, without an end",
    )
    async def session_events(
        request: Request,
        session: str,
        caller: CallerOf,
        after: After = "",
        last_event_id: LastEventId = "",
    ) -> Response:
        events = await tasks.follow(caller, session, last_event_id or after)
        opened = metrics.stream("session")
        frames = _frames(events, shown, opened, trace_id_of(request.scope))
        return EventStream(frames, {}, drain=None)

    return router


def _events_path(task: TaskHandle) -> str:
    return f"/v1/tasks/{task.id}/events"


def _frames(
    events: AsyncGenerator[Event],
    shown: EventJson,
    opened: AbstractContextManager[None],
    trace_id: str,
) -> AsyncGenerator[bytes]:
    """Events as server-sent events, the first with the time after which to come back.

    One named `error` says why a stream ends before its end.
    """
    retry_ms = iter([_RETRY_MS])

    def failed(failure: Failure) -> bytes:
        return sse(problem_details(failure, trace_id), event="error")

    return framed(opened, events, lambda event: shown.frame(event, next(retry_ms, 0)), failed)


def sessions_router(tasks: TasksApi) -> APIRouter:
    """What a session holds."""
    router = APIRouter(route_class=JsonRoute, tags=["Sessions"])

    @router.get("/v1/sessions/{session}", summary="A session and its tasks")
    async def session_state(session: str, caller: CallerOf) -> Response:
        return Json(await tasks.session(caller, session))

    @router.get("/v1/sessions/{session}/history", summary="The facts of a session, page by page")
    async def history(
        session: str,
        caller: CallerOf,
        after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 500,
    ) -> Response:
        return Json(await tasks.history(caller, session, after, limit))

    return router
