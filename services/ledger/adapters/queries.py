"""The ledger's questions about tasks and sessions as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.adapters.schema import sessions as s
from services.ledger.adapters.schema import steps, waits
from services.ledger.adapters.schema import tasks as t
from services.ledger.core import KEYS, TOKENS
from shared.contracts.facts import Usage
from shared.contracts.ledger import SessionsQuery, SessionSummary, TasksQuery, TaskSummary

_RESULT = sa.exists().where(
    *(steps.c[key] == waits.c[key] for key in KEYS["waits"]), steps.c.result_seq.is_not(None)
)
_PARKED = sa.exists().where(
    *(waits.c[key] == t.c[key] for key in KEYS["tasks"]),
    waits.c.parked_seq > sa.func.coalesce(waits.c.answered_seq, 0),
    ~_RESULT,
)
STATE = sa.case(
    (t.c.done_seq.is_not(None), t.c.status),
    (t.c.accepted_seq.is_(None), "queued"),
    (_PARKED, "parked"),
    else_="running",
).label("state")
_COUNTS = ("steps", "infer_steps", "tool_steps", *TOKENS)


async def tasks(connection: AsyncConnection, query: TasksQuery) -> tuple[TaskSummary, ...]:
    """Newest first; tasks without `done` get the sums of their results so far."""
    wanted = sa.select(t, STATE).where(t.c.tenant == query.tenant, t.c.submitted_seq.is_not(None))
    same = ((t.c.session, query.session), (t.c.task, query.task), (t.c.agent, query.agent))
    wanted = wanted.where(*(column == value for column, value in same if value is not None))
    wanted = wanted.where(*within(t.c.submitted, query.since, query.until))
    if query.status is not None:
        wanted = wanted.where(STATE.in_([query.status]))
    if query.before:
        wanted = wanted.where(t.c.submitted_seq < query.before)
    newest = wanted.order_by(t.c.submitted_seq.desc()).limit(query.limit)
    rows = (await connection.execute(newest)).mappings().all()
    open_tasks = [(row["session"], row["task"]) for row in rows if row["done_seq"] is None]
    sums = await _so_far(connection, query.tenant, open_tasks) if open_tasks else {}
    return tuple(_summary(row, sums.get((row["session"], row["task"]), row)) for row in rows)


def within(
    column: sa.ColumnElement[float], since: float, until: float
) -> list[sa.ColumnElement[bool]]:
    """A time from `since` on and before `until`, where those are given."""
    bounds = ((column >= since, since), (column < until, until))
    return [bound for bound, given in bounds if given]


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
        usage=usage_of(number),
        price=number["price"],
        error_code=row["error_code"] or "",
        input=row["input"],
        output=row["output"] or "",
    )


def usage_of(number: Mapping[str, Any]) -> Usage:
    """The tokens of a row or of sums over rows."""
    return Usage(
        input=int(number["input_tokens"] or 0),
        cached=int(number["cached_tokens"] or 0),
        output=int(number["output_tokens"] or 0),
    )


_MINE = [s.c[key] == t.c[key] for key in KEYS["sessions"]]
_OPEN = sa.exists().where(*_MINE, t.c.submitted_seq.is_not(None), t.c.done_seq.is_(None))


async def sessions(connection: AsyncConnection, query: SessionsQuery) -> tuple[SessionSummary, ...]:
    """The one that was touched last first."""
    newest = (
        sa.select(t.c.agent)
        .where(*_MINE, t.c.submitted_seq.is_not(None))
        .order_by(t.c.submitted_seq.desc())
        .limit(1)
    )
    count = sa.select(sa.func.count()).where(*_MINE, t.c.submitted_seq.is_not(None))
    numbers = {
        "agent": newest.correlate(s).scalar_subquery(),
        "tasks": count.correlate(s).scalar_subquery(),
        "open_tasks": count.where(t.c.done_seq.is_(None)).correlate(s).scalar_subquery(),
    }
    wanted = sa.select(s, *(value.label(name) for name, value in numbers.items())).where(
        s.c.tenant == query.tenant, *within(s.c.touched, query.since, 0.0)
    )
    if query.agent is not None:
        wanted = wanted.where(sa.exists().where(*_MINE, t.c.agent == query.agent))
    if query.state is not None:
        wanted = wanted.where(_OPEN if query.state == "running" else ~_OPEN)
    if query.before:
        wanted = wanted.where(s.c.touched_seq < query.before)
    page = wanted.order_by(s.c.touched_seq.desc()).limit(query.limit)
    rows = (await connection.execute(page)).mappings().all()
    return tuple(
        SessionSummary(
            session=row["session"],
            state="running" if row["open_tasks"] else "idle",
            sequence=row["touched_seq"],
            opened=row["opened"],
            touched=row["touched"],
            agent=row["agent"] or "",
            tasks=row["tasks"],
            open_tasks=row["open_tasks"],
        )
        for row in rows
    )
