"""The ledger's tables and its `usage` view, as SQLAlchemy Core metadata; the same on every engine.

They are made by the revisions in `migrations`; tests compare the two.

Column groups are those of `core`: each has a guard column with the sequence of the fact that
wrote it. Money is an integer (millionths of a cent), times are epoch seconds of the broker.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from services.ledger.core import CALLER, KEYS, TOKENS

SCHEMA_VERSION = 4
"""What the newest revision in `migrations` writes down for releases that know no Alembic."""

metadata = sa.MetaData()

_INTEGERS = frozenset(
    {"step", "revision", "attempt", "steps", "infer_steps", "tool_steps", "failed_attempt", *TOKENS}
    | {"below", "calls", "http_status", "times"}
)
_REALS = frozenset(
    {
        *("opened", "touched", "submitted", "accepted", "done", "started", "finished", "failed"),
        *("parked", "answered", "deleted", "begun", "ended"),
    }
)


def _type_of(name: str) -> sa.types.TypeEngine[Any]:
    if name.endswith("_seq") or name in _INTEGERS:
        return sa.BigInteger()
    if name in _REALS or name.endswith("_ms"):
        return sa.Double()
    return sa.Boolean() if name == "cached" else sa.Text()


def _table(name: str, columns: tuple[str, ...], *indexes: sa.Index) -> sa.Table:
    keys = (sa.Column(key, _type_of(key), primary_key=True) for key in KEYS[name])
    rest = (sa.Column(column, _type_of(column)) for column in columns)
    return sa.Table(name, metadata, *keys, *rest, *indexes)


sessions = _table(
    "sessions",
    ("opened_seq", "opened", "touched_seq", "touched"),
    sa.Index("sessions_recent", "tenant", "touched_seq"),
)
tasks = _table(
    "tasks",
    (
        *("submitted_seq", "agent", "submitted", "input", "accepted_seq", "revision", "accepted"),
        *("done_seq", "status", "done", "steps", "infer_steps", "tool_steps", *TOKENS),
        *("error_code", "output", *CALLER),
    ),
    sa.Index("tasks_recent", "tenant", "submitted_seq"),
)
steps = _table(
    "steps",
    (
        *("result_seq", "kind", "name", "worker", "status", "attempt", *TOKENS, "queued_ms"),
        *("first_token_ms", "total_ms", "cached", "error_code", "started", "finished", "day"),
        *("failed_seq", "failed_code", "failed_attempt", "failed_kind", "failed"),
    ),
    sa.Index("steps_days", "tenant", "day"),
)
waits = _table("waits", ("parked_seq", "parked", "reason", "answered_seq", "answered"))
completions = _table(
    "completions",
    (
        *("result_seq", "model", "worker", *TOKENS, "queued_ms", "first_token_ms", "total_ms"),
        *("finished", "day", "failed_seq", "error_code", "failed", "failed_model"),
        *("failed_worker", "asked_seq", "route", "kind", *CALLER),
    ),
    sa.Index("completions_days", "tenant", "day"),
    sa.Index("completions_recent", "tenant", "asked_seq"),
)
refusals = _table(
    "refusals",
    (
        *("refused_seq", "code", "route", "http_status", "times", "begun", "ended"),
        *("key_id", "trace_id"),
    ),
    sa.Index("refusals_recent", "tenant", "refused_seq"),
)
deletions = _table("deletions", ("deleted_seq", "below", "deleted"))
erased = _table("erased", ("result_seq", "calls", *TOKENS))
"""What deleted sessions used: numbers by agent, model and day."""
projection = sa.Table(
    "projection",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("oldest", sa.BigInteger, nullable=False),
    sa.Column("replay_from", sa.BigInteger, nullable=False),
    sa.Column("replay_until", sa.BigInteger),
)
FACT_TABLES = (sessions, tasks, steps, waits, completions, refusals, deletions, erased)
BY_NAME = {table.name: table for table in FACT_TABLES}


usage = sa.table(
    "usage",
    *(sa.column(name, _type_of(name)) for name in ("tenant", "agent", "session", "task")),
    *(sa.column(name, _type_of(name)) for name in ("model", "day", "key")),
    *(sa.column(name, sa.BigInteger()) for name in ("sequence", "calls", *TOKENS)),
    sa.column("total_ms", sa.Double()),
)
"""A view: model calls with a result (retries that led to none are not billed), completions, and
what deleted sessions used, whose calls have no times any more. Its text is in `migrations`."""
