"""The tables as the releases before Alembic made them.

What is there already stays: this revision takes over a database that such a release has made, and
makes an empty one. Their number for it is 2 (`projection.schema_version`); number 1 had no
deletions and another view.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "price")
VIEW = """
CREATE VIEW usage AS
SELECT steps.tenant, coalesce(tasks.agent, '') AS agent, steps.session, steps.task,
       steps.name AS model, steps.day, steps.result_seq AS sequence, 1 AS calls,
       steps.input_tokens, steps.cached_tokens, steps.output_tokens, steps.price
FROM steps
LEFT OUTER JOIN tasks ON steps.tenant = tasks.tenant AND steps.session = tasks.session
     AND steps.task = tasks.task
WHERE steps.kind = 'infer'
UNION ALL
SELECT tenant, '', '', id, model, day, result_seq, 1,
       input_tokens, cached_tokens, output_tokens, price
FROM completions
UNION ALL
SELECT tenant, agent, session, '', model, day, result_seq, calls,
       input_tokens, cached_tokens, output_tokens, price
FROM erased
"""


def upgrade() -> None:
    """Create what is missing, and the view anew."""
    op.execute("DROP VIEW IF EXISTS usage")
    _content()
    _numbers()
    for index, table, columns in (
        ("tasks_recent", "tasks", ["tenant", "submitted_seq"]),
        ("steps_days", "steps", ["tenant", "day"]),
        ("completions_days", "completions", ["tenant", "day"]),
    ):
        op.create_index(index, table, columns, if_not_exists=True)
    op.execute(VIEW)
    op.execute("UPDATE projection SET schema_version = 2")


def _content() -> None:
    _create("sessions", *_keys(2), *_seq("opened", "touched"), *_real("opened", "touched"))
    _create(
        "tasks",
        *(*_keys(3), *_seq("submitted", "accepted", "done")),
        *_real("submitted", "accepted", "done"),
        *_text("agent", "input", "status", "error_code", "output"),
        *_number("revision", "steps", "infer_steps", "tool_steps", *TOKENS),
    )
    _create(
        "steps",
        *_keys(4),
        *_seq("result", "failed"),
        *_number("attempt", *TOKENS, "failed_attempt"),
        *_text("kind", "name", "worker", "status", "error_code", "day"),
        *_text("failed_code", "failed_kind"),
        *_real("queued_ms", "first_token_ms", "total_ms", "started", "finished", "failed"),
        sa.Column("cached", sa.Boolean()),
    )
    columns: list[sa.Column[Any]] = [*_keys(4), *_seq("parked", "answered")]
    _create("waits", *columns, *_real("parked", "answered"), *_text("reason"))


def _numbers() -> None:
    _create(
        "completions",
        _key("tenant"),
        _key("id"),
        *_number("result_seq", *TOKENS),
        *_text("model", "worker", "day"),
        *_real("queued_ms", "first_token_ms", "total_ms", "finished"),
    )
    _create(
        "deletions",
        *(*_keys(2), *_seq("deleted"), *_number("below"), *_real("deleted")),
    )
    names = ("tenant", "session", "agent", "model", "day")
    _create(
        "erased",
        *(_key(name) for name in names),
        *(*_seq("result"), *_number("calls", *TOKENS)),
    )
    _create(
        "projection",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("sequence", "oldest", "replay_from")
        ),
        sa.Column("replay_until", sa.BigInteger()),
    )


def _create(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(name, *columns, if_not_exists=True)


def _keys(count: int) -> list[sa.Column[Any]]:
    """The first of the keys that the rows of a session have."""
    names: list[sa.Column[Any]] = [_key(name) for name in ("tenant", "session", "task")]
    names.append(sa.Column("step", sa.BigInteger(), primary_key=True))
    return names[:count]


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), primary_key=True)


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text()) for name in names]


def _real(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double()) for name in names]


def _number(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger()) for name in names]


def _seq(*names: str) -> list[sa.Column[int]]:
    return _number(*(f"{name}_seq" for name in names))
