"""Alembic's entry: it migrates over the connection that it is handed, never over one of its own.

The caller has begun the transaction and holds the lock (`services.ledger.adapters.migrating`).
"""

from __future__ import annotations

from alembic import context

from services.ledger.adapters import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    include_name=lambda name, kind, _parents: kind != "table" or name != schema.usage.name,
)
with context.begin_transaction():
    context.run_migrations()
