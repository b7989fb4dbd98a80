"""What the request log and the times of model calls need; 3 for `projection.schema_version`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CALLER = ("trace_id", "end_user", "key_id", "metadata")
VIEW = """
CREATE VIEW usage AS
SELECT steps.tenant, coalesce(tasks.agent, '') AS agent, steps.session, steps.task,
       steps.name AS model, steps.day, steps.result_seq AS sequence, 1 AS calls,
       steps.input_tokens, steps.cached_tokens, steps.output_tokens, steps.price, steps.total_ms
FROM steps
LEFT OUTER JOIN tasks ON steps.tenant = tasks.tenant AND steps.session = tasks.session
     AND steps.task = tasks.task
WHERE steps.kind = 'infer'
UNION ALL
SELECT tenant, '', '', id, model, day, result_seq, 1,
       input_tokens, cached_tokens, output_tokens, price, total_ms
FROM completions
WHERE result_seq IS NOT NULL
UNION ALL
SELECT tenant, agent, session, '', model, day, result_seq, calls,
       input_tokens, cached_tokens, output_tokens, price, NULL
FROM erased
"""


def upgrade() -> None:
    """Add the columns; their rows are filled by what comes, or by a rebuild."""
    op.execute("DROP VIEW IF EXISTS usage")
    for name in CALLER:
        op.add_column("tasks", sa.Column(name, sa.Text()))
    for name in (*CALLER, "route", "error_code", "failed_model", "failed_worker"):
        op.add_column("completions", sa.Column(name, sa.Text()))
    for name in ("asked_seq", "failed_seq"):
        op.add_column("completions", sa.Column(name, sa.BigInteger()))
    op.add_column("completions", sa.Column("failed", sa.Double()))
    op.execute("UPDATE completions SET asked_seq = result_seq")
    op.create_index("completions_recent", "completions", ["tenant", "asked_seq"])
    op.create_index("sessions_recent", "sessions", ["tenant", "touched_seq"])
    op.execute(VIEW)
    op.execute("UPDATE projection SET schema_version = 3")
