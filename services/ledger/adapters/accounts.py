"""Grouped usage as SQL: sums, and percentiles by rank, which both databases can.

Ranks cost a sort of all calls that are asked about; who needs no times gets sums alone.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.adapters.queries import usage_of
from services.ledger.adapters.schema import usage as view
from services.ledger.core import TOKENS
from shared.contracts.ledger import NO_TIMES, Latency, UsageQuery, UsageSummary


async def usage(connection: AsyncConnection, query: UsageQuery) -> tuple[UsageSummary, ...]:
    """The groups from `offset` on, `limit` at most."""
    grouping = query.grouping
    calls = (_ranked(query) if query.times else _asked_for(query)).subquery("calls_asked_for")
    names = [calls.c[key] for key in grouping]
    size = sa.func.sum(calls.c.input_tokens + calls.c.output_tokens)
    days = [calls.c.day.desc()] if "day" in grouping else []
    wanted = (
        sa.select(
            *names,
            *(sa.func.sum(calls.c[name]).label(name) for name in ("calls", *TOKENS)),
            *(_latency(calls.c) if query.times else ()),
        )
        .group_by(*names)
        .order_by(*days, size.desc(), *names)
        .offset(query.offset)
        .limit(query.limit)
    )
    rows = (await connection.execute(wanted)).mappings().all()
    found = tuple(_summary(row, query) for row in rows)
    return found[::-1] if grouping == ("day",) else found


def _ranked(query: UsageQuery) -> sa.Select[Any]:
    """The calls that are asked about, each with its rank by duration within its group."""
    place: dict[str, Any] = {"partition_by": [view.c[key] for key in query.grouping]}
    unknown = sa.case((view.c.total_ms.is_(None), 1), else_=0)
    rank = sa.func.row_number().over(**place, order_by=[unknown, view.c.total_ms])
    count = sa.func.count(view.c.total_ms).over(**place)
    return _asked_for(query, rank.label("rank"), count.label("timed"))


def _asked_for(query: UsageQuery, *more: sa.Label[Any]) -> sa.Select[Any]:
    """The calls that count, with some columns more."""
    wanted = sa.select(view, *more).where(view.c.tenant == query.tenant)
    for name in ("session", "agent", "model", "task", "key"):
        if (value := getattr(query, name)) is not None:
            wanted = wanted.where(view.c[name] == value)
    bounds = (
        (view.c.day >= query.since, query.since),
        (view.c.day <= query.until, query.until),
        (view.c.sequence <= query.upto, query.upto),
    )
    return wanted.where(*(bound for bound, given in bounds if given))


def _latency(call: sa.ColumnCollection[str, Any]) -> list[sa.Label[Any]]:
    def percentile(percent: int) -> sa.ColumnElement[Any]:
        reached = call.rank * 100 >= call.timed * percent
        return sa.func.min(sa.case((reached, call.total_ms)))

    return [
        sa.func.count(call.total_ms).label("count"),
        sa.func.avg(call.total_ms).label("mean_ms"),
        percentile(50).label("p50_ms"),
        percentile(95).label("p95_ms"),
        sa.func.max(call.total_ms).label("max_ms"),
    ]


def _summary(row: Any, query: UsageQuery) -> UsageSummary:  # noqa: ANN401  # a row
    names: dict[str, str] = {key: str(row[key]) for key in query.grouping}
    return UsageSummary(
        key="/".join(names.values()),
        calls=int(row["calls"]),
        usage=usage_of(row),
        price=int(row["price"]),
        names=names,
        latency=_times(row) if query.times else NO_TIMES,
    )


def _times(row: Any) -> Latency:  # noqa: ANN401  # a row
    times = {name: float(row[name] or 0.0) for name in ("mean_ms", "p50_ms", "p95_ms", "max_ms")}
    return Latency(count=int(row["count"]), **times)
