"""Usage, the request log and lists as HTTP shows them. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import get_args

from services.ingress.core.access.budgets import Budget
from services.ingress.core.tasks.state import Json, full
from shared.contracts.ledger import (
    RequestLine,
    RequestsReply,
    SessionsReply,
    SessionSummary,
    TasksReply,
    TaskSummary,
    UsageKey,
    UsageReply,
    UsageSummary,
)
from shared.errors import Permanent
from shared.models import amount

KEYS: tuple[UsageKey, ...] = get_args(UsageKey)
_NUMBERS = ("calls", "input_tokens", "cached_tokens", "output_tokens", "price", "cost")
_TIMES = ("count", "mean_ms", "p50_ms", "p95_ms", "max_ms")


def grouping(text: str) -> tuple[UsageKey, ...]:
    """What `by` asks for: one name, or several with commas between.

    Raises:
        Permanent: `invalid_grouping`.
    """
    names = [name.strip() for name in text.split(",")]
    known: dict[str, UsageKey] = {key: key for key in KEYS}
    if unknown := [name for name in names if name not in known]:
        raise Permanent(
            "invalid_grouping",
            f"by takes {', '.join(KEYS)}, with commas between several; not {unknown[0][:80]!r}",
            field="by",
        )
    return tuple(dict.fromkeys(known[name] for name in names))


def usage_json(
    reply: UsageReply, keys: Sequence[str], currency: str, budgets: Sequence[Budget] = ()
) -> Json:
    """The answer of `/v1/usage`, with the budgets of whoever asks."""
    return {
        "by": list(keys),
        "currency": currency,
        "rows": [_row(row) for row in reply.rows],
        "total": None if reply.total is None else _numbers(reply.total),
        "more": reply.more,
        "sequence": reply.sequence,
        "rebuilding": reply.rebuilding,
        "budgets": [_budget(one) for one in budgets],
    }


def _budget(budget: Budget) -> Json:
    """What was spent is null until the ledger has told."""
    spent = budget.spent if budget.known else None
    return {
        "of": budget.whose,
        "period": budget.period,
        "limit": budget.limit,
        "spent": spent,
        "left": budget.left if budget.known else None,
        "resets": budget.resets,
    }


def usage_csv(reply: UsageReply, keys: Sequence[str], currency: str) -> str:
    """The rows as CSV (RFC 4180), without the total: a spreadsheet adds up by itself."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*keys, *_NUMBERS, "currency", *(f"latency_{name}" for name in _TIMES)])
    for row in reply.rows:
        numbers = _numbers(row)
        times = [getattr(row.latency, name) for name in _TIMES]
        names = [_harmless(row.names[key]) for key in keys]
        writer.writerow([*names, *(numbers[name] for name in _NUMBERS), currency, *times])
    return text.getvalue()


def _harmless(name: str) -> str:
    """A spreadsheet takes such a beginning for a formula; a model may be called anything."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def _row(row: UsageSummary) -> Json:
    return {**row.names, **_numbers(row)}


def _numbers(row: UsageSummary) -> Json:
    return {
        "calls": row.calls,
        "input_tokens": row.usage.input,
        "cached_tokens": row.usage.cached,
        "output_tokens": row.usage.output,
        "price": row.price,
        "cost": amount(row.price),
        "latency": full(row.latency),
    }


def request_json(line: RequestLine, currency: str) -> Json:
    """A line of the request log."""
    return _told(line) | {"cost": amount(line.price), "currency": currency}


def task_json(task: TaskSummary, currency: str) -> Json:
    """A task in a list."""
    return _told(task) | {"cost": amount(task.price), "currency": currency}


def session_json(session: SessionSummary) -> Json:
    """A session in a list."""
    return _told(session)


def _told(value: RequestLine | TaskSummary | SessionSummary) -> Json:
    body = full(value)
    if not isinstance(body, dict):
        return {}
    if isinstance(usage := body.get("usage"), dict):
        usage.pop("reasoning", None)  # the ledger does not count it: zero would be untrue
    return body


def page_json(
    name: str, rows: Sequence[Json], limit: int, reply: RequestsReply | SessionsReply | TasksReply
) -> Json:
    """A page; `next` is the `before` of the following one, null where this is not full."""
    last = rows[-1]["sequence"] if len(rows) == limit else None
    state = {"sequence": reply.sequence, "rebuilding": reply.rebuilding}
    return {name: rows, "next": last, **state}
