"""Brings the database to the schema of this release, by Alembic; one process at a time.

Everything happens in one transaction: PostgreSQL and SQLite both undo half a migration. Whoever
comes second waits, and then finds nothing to do.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from services.ledger.adapters import schema
from shared.errors import Permanent

FOLDER = Path(__file__).parent / "migrations"
_LOCK = 7_020_951_318_472_663
"""Names our lock among all advisory locks of a PostgreSQL database; any number does."""


def config_for(connection: sa.Connection) -> Config:
    """Alembic's configuration over a connection that has begun its transaction."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: sa.Connection) -> None:
    """Take the lock and run what is missing.

    Raises:
        Permanent: `ledger_schema_newer`.
    """
    _lock(connection)
    config = config_for(connection)
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    _refuse_newer(connection, found, found is None or found in known)
    if found != head:
        command.upgrade(config, "head")


def _lock(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    else:
        # the driver begins a transaction only at the first change of a row, not at that of a table
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _refuse_newer(connection: sa.Connection, revision: str | None, known: bool) -> None:
    """Every revision also counts up `schema_version`: releases without Alembic look there."""
    version = 0
    if sa.inspect(connection).has_table(schema.projection.name):
        version = connection.scalar(sa.select(schema.projection.c.schema_version)) or 0
    if not known or version > schema.SCHEMA_VERSION:
        raise Permanent(
            "ledger_schema_newer",
            f"the database has schema {version} (revision {revision}), this release knows "
            f"{schema.SCHEMA_VERSION}: run the newer release, or name another database in "
            "MILLRACE_DATABASE_URL",
        )
