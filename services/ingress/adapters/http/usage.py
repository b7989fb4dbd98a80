"""`/v1/usage`, `/v1/requests`, and the lists of sessions and tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from services.ingress.adapters.http.request import CallerOf, Wait
from services.ingress.adapters.http.transport import Json, JsonRoute
from services.ingress.core.books.usage import grouping
from services.ingress.handlers.usage import UsageHandlers
from shared.contracts.ledger import (
    PATIENCE,
    RequestKind,
    RequestsQuery,
    SessionsQuery,
    SessionState,
    TasksQuery,
    TaskState,
    UsageQuery,
)

Name = Annotated[str | None, Query(max_length=256)]
Time = Annotated[float, Query(ge=0, lt=2**40, description="epoch seconds")]
Day = Annotated[
    str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="a UTC day, inclusive: 2026-01-31")
]
Limit = Annotated[int, Query(ge=1, le=500)]
Before = Annotated[int, Query(ge=0, lt=2**63, description="the `next` of the page before")]
MinSeq = Annotated[
    int,
    Query(
        ge=0,
        lt=2**63,
        description="answer when the log is applied up to here, within `Prefer: wait=N` seconds "
        "(5 without): a client reads what it wrote",
    ),
]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new an answer must be, and how long that is worth."""

    min_seq: int
    patience_s: float


async def _freshness(wait: Wait, min_seq: MinSeq = 0) -> Freshness:
    return Freshness(min_seq, PATIENCE if wait is None else float(min(wait, 60)))


Fresh = Annotated[Freshness, Depends(_freshness)]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which calls count."""

    agent: str | None
    model: str | None
    session: str | None
    task: str | None
    since: str
    until: str


async def _filters(  # ADR 0025: the query parameters of one resource
    agent: Name = None,
    model: Name = None,
    session: Name = None,
    task: Name = None,
    since: Day = "",
    until: Day = "",
) -> Filters:
    return Filters(agent, model, session, task, since, until)


async def _usage(  # ADR 0025
    caller: CallerOf,
    fresh: Fresh,
    chosen: Annotated[Filters, Depends(_filters)],
    by: Annotated[str, Query(max_length=100, examples=["agent,model"])] = "day",
    limit: Limit = 100,
    offset: Annotated[int, Query(ge=0, lt=2**31)] = 0,
) -> UsageQuery:
    return UsageQuery(
        tenant=caller.tenant,
        keys=grouping(by),
        agent=chosen.agent,
        model=chosen.model,
        session=chosen.session,
        task=chosen.task,
        since=chosen.since,
        until=chosen.until,
        limit=limit,
        offset=offset,
        min_seq=fresh.min_seq,
        patience_s=fresh.patience_s,
    )


async def _sessions(  # noqa: PLR0913  # query parameters are parameters (FastAPI)
    caller: CallerOf,
    fresh: Fresh,
    agent: Name = None,
    state: SessionState | None = None,
    since: Time = 0.0,
    limit: Limit = 50,
    before: Before = 0,
) -> SessionsQuery:
    return SessionsQuery(
        tenant=caller.tenant,
        agent=agent,
        state=state,
        since=since,
        limit=limit,
        before=before,
        min_seq=fresh.min_seq,
        patience_s=fresh.patience_s,
    )


async def _requests(  # noqa: PLR0913  # query parameters are parameters (FastAPI)
    caller: CallerOf,
    fresh: Fresh,
    kind: RequestKind | None = None,
    session: Name = None,
    agent: Name = None,
    model: Name = None,
    status: TaskState | None = None,
    since: Time = 0.0,
    until: Time = 0.0,
    min_ms: Annotated[float, Query(ge=0, lt=2**40)] = 0.0,
    text: Annotated[str, Query(max_length=200)] = "",
    limit: Limit = 50,
    before: Before = 0,
) -> RequestsQuery:
    return RequestsQuery(
        tenant=caller.tenant,
        kind=kind,
        session=session,
        agent=agent,
        model=model,
        status=status,
        since=since,
        until=until,
        min_ms=min_ms,
        text=text.replace("\0", ""),
        limit=limit,
        before=before,
        min_seq=fresh.min_seq,
        patience_s=fresh.patience_s,
    )


async def _tasks(  # noqa: PLR0913  # query parameters are parameters (FastAPI)
    caller: CallerOf,
    fresh: Fresh,
    session: Name = None,
    agent: Name = None,
    status: TaskState | None = None,
    since: Time = 0.0,
    until: Time = 0.0,
    limit: Limit = 50,
    before: Before = 0,
) -> TasksQuery:
    return TasksQuery(
        tenant=caller.tenant,
        session=session,
        agent=agent,
        status=status,
        since=since,
        until=until,
        limit=limit,
        before=before,
        min_seq=fresh.min_seq,
        patience_s=fresh.patience_s,
    )


def usage_router(api: UsageHandlers) -> APIRouter:
    """What was used, and by what."""
    router = APIRouter(route_class=JsonRoute, tags=["Usage"])

    @router.get("/v1/usage", summary="Tokens, money and times of model calls, grouped")
    async def usage(
        query: Annotated[UsageQuery, Depends(_usage)],
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        if "text/csv" in accept:
            return Response(await api.usage_csv(query), media_type="text/csv; charset=utf-8")
        return Json(await api.usage(query))

    @router.get("/v1/requests", summary="Tasks and completions, newest first")
    async def requests(query: Annotated[RequestsQuery, Depends(_requests)]) -> Response:
        return Json(await api.requests(query))

    @router.get("/v1/requests/{request}", summary="One line of the request log")
    async def request(request: str, caller: CallerOf, session: Name = None) -> Response:
        return Json(await api.request(caller, request, session))

    return router


def lists_router(api: UsageHandlers) -> APIRouter:
    """What there is, from the ledger; a single task or session is read from the log."""
    router = APIRouter(route_class=JsonRoute)

    @router.get("/v1/tasks", summary="Tasks, newest first", tags=["Tasks"])
    async def tasks(query: Annotated[TasksQuery, Depends(_tasks)]) -> Response:
        return Json(await api.tasks(query))

    @router.get("/v1/sessions", summary="Sessions, touched last first", tags=["Sessions"])
    async def sessions(query: Annotated[SessionsQuery, Depends(_sessions)]) -> Response:
        return Json(await api.sessions(query))

    return router
