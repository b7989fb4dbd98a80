"""The ledger's questions as SQL: recent tasks and grouped usage."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.adapters.schema import steps, waits
from services.ledger.adapters.schema import tasks as t
from services.ledger.adapters.schema import usage as view
from services.ledger.core import KEYS, TOKENS
from shared.contracts.facts import Usage
from shared.contracts.ledger import TasksQuery, TaskSummary, UsageQuery, UsageSummary

_RESULT = sa.exists().where(
    *(steps.c[key] == waits.c[key] for key in KEYS["waits"]), steps.c.result_seq.is_not(None)
)
_PARKED = sa.exists().where(
    *(waits.c[key] == t.c[key] for key in KEYS["tasks"]),
    waits.c.parked_seq > sa.func.coalesce(waits.c.answered_seq, 0),
    ~_RESULT,
)
_STATE = sa.case(
    (t.c.done_seq.is_not(None), t.c.status),
    (t.c.accepted_seq.is_(None), "queued"),
    (_PARKED, "parked"),
    else_="running",
).label("state")
_COUNTS = ("steps", "infer_steps", "tool_steps", *TOKENS)


async def tasks(connection: AsyncConnection, query: TasksQuery) -> tuple[TaskSummary, ...]:
    """Newest first; tasks without `done` get the sums of their results so far."""
    wanted = sa.select(t, _STATE).where(t.c.tenant == query.tenant, t.c.submitted_seq.is_not(None))
    for column, value in ((t.c.session, query.session), (t.c.task, query.task)):
        if value is not None:
            wanted = wanted.where(column == value)
    if query.status is not None:
        wanted = wanted.where(_STATE.in_([query.status]))
    if query.before:
        wanted = wanted.where(t.c.submitted_seq < query.before)
    newest = wanted.order_by(t.c.submitted_seq.desc()).limit(query.limit)
    rows = (await connection.execute(newest)).mappings().all()
    open_tasks = [(row["session"], row["task"]) for row in rows if row["done_seq"] is None]
    sums = await _so_far(connection, query.tenant, open_tasks) if open_tasks else {}
    return tuple(_summary(row, sums.get((row["session"], row["task"]), row)) for row in rows)


async def _so_far(
    connection: AsyncConnection, tenant: str, keys: list[tuple[str, str]]
) -> dict[tuple[str, str], Any]:
    infer = sa.func.sum(sa.case((steps.c.kind == "infer", 1), else_=0))
    tool = sa.func.sum(sa.case((steps.c.kind == "tool", 1), else_=0))
    wanted = (
        sa.select(
            steps.c.session,
            steps.c.task,
            sa.func.count().label("steps"),
            infer.label("infer_steps"),
            tool.label("tool_steps"),
            *(sa.func.sum(steps.c[name]).label(name) for name in TOKENS),
        )
        .where(
            steps.c.tenant == tenant,
            steps.c.result_seq.is_not(None),
            sa.tuple_(steps.c.session, steps.c.task).in_(keys),
        )
        .group_by(steps.c.session, steps.c.task)
    )
    rows = (await connection.execute(wanted)).mappings().all()
    return {(row["session"], row["task"]): row for row in rows}


def _summary(row: Any, counts: Any) -> TaskSummary:  # noqa: ANN401  # rows of two selects
    number = {name: int(counts[name] or 0) for name in _COUNTS}
    accepted = row["accepted"] or 0.0
    return TaskSummary(
        task=row["task"],
        session=row["session"],
        agent=row["agent"],
        status=row["state"],
        sequence=row["submitted_seq"],
        submitted=row["submitted"],
        accepted=accepted,
        done=row["done"] or 0.0,
        queue_ms=max(0.0, (accepted - row["submitted"]) * 1000) if accepted else 0.0,
        revision=row["revision"] or 0,
        steps=number["steps"],
        infer_steps=number["infer_steps"],
        tool_steps=number["tool_steps"],
        usage=_usage(number),
        price=number["price"],
        error_code=row["error_code"] or "",
        input=row["input"],
        output=row["output"] or "",
    )


def _usage(number: dict[str, int]) -> Usage:
    return Usage(
        input=number["input_tokens"],
        cached=number["cached_tokens"],
        output=number["output_tokens"],
    )


async def usage(connection: AsyncConnection, query: UsageQuery) -> tuple[UsageSummary, ...]:
    """Days in order; other groups by tokens, the largest first."""
    key = view.c[query.by]
    sums = {name: sa.func.sum(view.c[name]).label(name) for name in TOKENS}
    wanted = (
        sa.select(key.label("key"), sa.func.sum(view.c.calls).label("calls"), *sums.values())
        .where(view.c.tenant == query.tenant)
        .group_by(key)
    )
    if query.session is not None:
        wanted = wanted.where(view.c.session == query.session)
    if query.since:
        wanted = wanted.where(view.c.day >= query.since)
    size = sa.func.sum(view.c.input_tokens + view.c.output_tokens)
    ordered = wanted.order_by(key) if query.by == "day" else wanted.order_by(size.desc(), key)
    rows = (await connection.execute(ordered)).mappings().all()
    return tuple(
        UsageSummary(
            key=row["key"],
            calls=int(row["calls"]),
            usage=_usage({name: int(row[name]) for name in TOKENS}),
            price=int(row["price"]),
        )
        for row in rows
    )
