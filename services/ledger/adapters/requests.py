"""The request log as SQL: a page of each kind of request, put together by sequence."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.adapters.queries import STATE, usage_of, within
from services.ledger.adapters.schema import completions as c
from services.ledger.adapters.schema import refusals as r
from services.ledger.adapters.schema import steps
from services.ledger.adapters.schema import tasks as t
from services.ledger.core import KEYS, TOKENS
from shared.contracts.facts import Usage
from shared.contracts.ledger import RequestLine, RequestsQuery

_INFERRED = (steps.c.kind == "infer", steps.c.result_seq.is_not(None))


async def requests(connection: AsyncConnection, query: RequestsQuery) -> tuple[RequestLine, ...]:
    """Newest first."""
    found: list[RequestLine] = []
    if query.kind in (None, "task"):
        found += await _tasks(connection, query)
    if query.kind in (None, "completion", "embedding") and _may_complete(query):
        found += await _completions(connection, query)
    if query.kind in (None, "refused") and _may_be_refused(query):
        found += await _refusals(connection, query)
    return tuple(sorted(found, key=lambda line: -line.sequence)[: query.limit])


def _may_complete(query: RequestsQuery) -> bool:
    """Completions have neither session nor agent nor text, and are known when they have ended."""
    ended = query.status in (None, "completed", "failed")
    return ended and not (query.session or query.agent or query.text)


def _may_be_refused(query: RequestsQuery) -> bool:
    """Nothing is known of what was refused but who asked, for what and when."""
    failed = query.status in (None, "failed")
    return failed and _may_complete(query) and not (query.model or query.min_ms)


async def _tasks(connection: AsyncConnection, query: RequestsQuery) -> list[RequestLine]:
    wanted = sa.select(t, STATE).where(t.c.tenant == query.tenant, t.c.submitted_seq.is_not(None))
    same = ((t.c.task, query.id), (t.c.session, query.session), (t.c.agent, query.agent))
    wanted = wanted.where(*(column == value for column, value in same if value is not None))
    wanted = wanted.where(*within(t.c.submitted, query.since, query.until))
    if query.status is not None:
        wanted = wanted.where(STATE.in_([query.status]))
    if query.min_ms:
        wanted = wanted.where((t.c.done - t.c.submitted) * 1000 >= query.min_ms)
    if query.text:
        texts = (t.c.input, t.c.output)
        wanted = wanted.where(sa.or_(*(x.icontains(query.text, autoescape=True) for x in texts)))
    if query.model is not None:
        mine = [steps.c[key] == t.c[key] for key in KEYS["tasks"]]
        wanted = wanted.where(sa.exists().where(*mine, *_INFERRED, steps.c.name == query.model))
    if query.before:
        wanted = wanted.where(t.c.submitted_seq < query.before)
    page = wanted.order_by(t.c.submitted_seq.desc()).limit(query.limit)
    rows = (await connection.execute(page)).mappings().all()
    calls = await _calls(connection, query.tenant, [(row["session"], row["task"]) for row in rows])
    return [_task(row, calls.get((row["session"], row["task"]), [])) for row in rows]


async def _calls(
    connection: AsyncConnection, tenant: str, keys: list[tuple[str, str]]
) -> dict[tuple[str, str], list[Any]]:
    """The model calls of some tasks, in order."""
    if not keys:
        return {}
    wanted = (
        sa.select(
            *(steps.c[name] for name in ("session", "task", "name", "worker", "started")),
            *(steps.c[name] for name in ("first_token_ms", *TOKENS)),
        )
        .where(
            steps.c.tenant == tenant,
            sa.tuple_(steps.c.session, steps.c.task).in_(keys),
            *_INFERRED,
        )
        .order_by(steps.c.step)
    )
    found: dict[tuple[str, str], list[Any]] = {}
    for row in (await connection.execute(wanted)).mappings():
        found.setdefault((row["session"], row["task"]), []).append(row)
    return found


def _task(row: Any, calls: list[Any]) -> RequestLine:  # noqa: ANN401  # rows
    usage = sum((usage_of(call) for call in calls), Usage())
    first = calls[0]["started"] + calls[0]["first_token_ms"] / 1000 if calls else row["submitted"]
    return RequestLine(
        id=row["task"],
        kind="task",
        sequence=row["submitted_seq"],
        time=row["submitted"],
        status=row["state"],
        session=row["session"],
        agent=row["agent"],
        model=calls[-1]["name"] if calls else "",
        worker=calls[-1]["worker"] if calls else "",
        error_code=row["error_code"] or "",
        usage=usage,
        price=sum(call["price"] for call in calls),
        latency_ms=max(0.0, (row["done"] - row["submitted"]) * 1000) if row["done"] else 0.0,
        first_token_ms=max(0.0, (first - row["submitted"]) * 1000),
        **_caller(row),
    )


def _caller(row: Any) -> dict[str, Any]:  # noqa: ANN401  # a row
    names = {"trace_id": "trace_id", "user": "end_user", "key": "key_id"}
    given = {name: row[column] or "" for name, column in names.items()}
    return given | {"metadata": orjson.loads(row["metadata"] or "{}")}


async def _completions(connection: AsyncConnection, query: RequestsQuery) -> list[RequestLine]:
    time = sa.func.coalesce(c.c.finished, c.c.failed)
    model = sa.func.coalesce(c.c.model, c.c.failed_model)
    wanted = sa.select(c).where(c.c.tenant == query.tenant)
    kind = sa.func.coalesce(c.c.kind, "completion")
    same = ((c.c.id, query.id), (model, query.model), (kind, query.kind))
    wanted = wanted.where(*(column == value for column, value in same if value is not None))
    wanted = wanted.where(*within(time, query.since, query.until))
    if query.status is not None:
        failed = sa.or_(c.c.result_seq.is_(None), c.c.result_seq == c.c.failed_seq)
        failed = sa.func.coalesce(failed, sa.false())
        wanted = wanted.where(failed if query.status == "failed" else ~failed)
    if query.min_ms:
        wanted = wanted.where(c.c.total_ms >= query.min_ms)
    if query.before:
        wanted = wanted.where(c.c.asked_seq < query.before)
    page = wanted.order_by(c.c.asked_seq.desc()).limit(query.limit)
    return [_completion(row) for row in (await connection.execute(page)).mappings()]


def _completion(row: Any) -> RequestLine:  # noqa: ANN401  # a row
    failed = row["result_seq"] in (None, row["failed_seq"])
    return RequestLine(
        id=row["id"],
        kind=row["kind"] or "completion",
        sequence=row["asked_seq"],
        time=row["failed"] if failed else row["finished"],
        status="failed" if failed else "completed",
        route=row["route"] or "",
        model=row["failed_model"] if failed else row["model"],
        worker=row["failed_worker"] if failed else row["worker"],
        error_code=row["error_code"] if failed else "",
        usage=usage_of(row),
        price=row["price"] or 0,
        latency_ms=row["total_ms"] or 0.0,
        first_token_ms=row["first_token_ms"] or 0.0,
        **_caller(row),
    )


async def _refusals(connection: AsyncConnection, query: RequestsQuery) -> list[RequestLine]:
    wanted = sa.select(r).where(r.c.tenant == query.tenant)
    if query.id is not None:
        wanted = wanted.where(r.c.id == query.id)
    wanted = wanted.where(*within(r.c.begun, query.since, query.until))
    if query.before:
        wanted = wanted.where(r.c.refused_seq < query.before)
    page = wanted.order_by(r.c.refused_seq.desc()).limit(query.limit)
    rows = (await connection.execute(page)).mappings()
    return [
        RequestLine(
            id=row["id"],
            kind="refused",
            sequence=row["refused_seq"],
            time=row["begun"],
            status="failed",
            route=row["route"],
            error_code=row["code"],
            trace_id=row["trace_id"],
            key=row["key_id"],
            count=row["times"],
            until=row["ended"],
            http_status=row["http_status"],
        )
        for row in rows
    ]
