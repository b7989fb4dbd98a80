"""Usage by API key, what was refused, and what kind of request a completion was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEW = """
CREATE VIEW usage AS
SELECT steps.tenant, coalesce(tasks.agent, '') AS agent, steps.session, steps.task,
       steps.name AS model, steps.day, coalesce(tasks.key_id, '') AS key,
       steps.result_seq AS sequence, 1 AS calls,
       steps.input_tokens, steps.cached_tokens, steps.output_tokens, steps.price, steps.total_ms
FROM steps
LEFT OUTER JOIN tasks ON steps.tenant = tasks.tenant AND steps.session = tasks.session
     AND steps.task = tasks.task
WHERE steps.kind = 'infer'
UNION ALL
SELECT tenant, '', '', id, model, day, coalesce(key_id, ''), result_seq, 1,
       input_tokens, cached_tokens, output_tokens, price, total_ms
FROM completions
WHERE result_seq IS NOT NULL
UNION ALL
SELECT tenant, agent, session, '', model, day, '', result_seq, calls,
       input_tokens, cached_tokens, output_tokens, price, NULL
FROM erased
"""


def upgrade() -> None:
    """Add the table and the columns; their rows are filled by what comes, or by a rebuild."""
    op.execute("DROP VIEW usage")
    op.add_column("completions", sa.Column("kind", sa.Text()))
    op.create_table(
        "refusals",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("refused_seq", sa.BigInteger()),
        *(sa.Column(name, sa.Text()) for name in ("code", "route", "key_id", "trace_id")),
        *(sa.Column(name, sa.BigInteger()) for name in ("http_status", "times")),
        *(sa.Column(name, sa.Double()) for name in ("begun", "ended")),
    )
    op.create_index("refusals_recent", "refusals", ["tenant", "refused_seq"])
    op.execute(VIEW)
    op.execute("UPDATE projection SET schema_version = 4")
