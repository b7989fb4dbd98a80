"""`LedgerStore` over SQLAlchemy (async): SQLite embedded, PostgreSQL in production.

Every change is one guarded upsert, so the database itself keeps the first (or last) fact of a
group and no row is read before it is written. Vendor errors are translated here, at one border.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.ledger.adapters import accounts, erasing, queries, requests, schema
from services.ledger.adapters.migrating import migrate
from services.ledger.core import GROUPS, KEYS, Change, Group, coalesce, horizons_of, kept
from services.ledger.ports import Position
from shared.contracts.ledger import (
    RequestLine,
    RequestsQuery,
    SessionsQuery,
    SessionSummary,
    TasksQuery,
    TaskSummary,
    UsageQuery,
    UsageSummary,
)
from shared.errors import Broken, Permanent, Transient

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_BUSY_MS = 10_000
_PAUSES = (0.1, 0.4)
_PASSING = ("08", "40", "53", "55P03", "57P")
"""Classes of SQLSTATE that may go well the next time: connection, conflict, resources, shutdown."""
_CLAIM = sa.update(schema.projection).values(sequence=schema.projection.c.sequence)
"""Makes writers follow one another: one that has not seen a deletion must not write behind it."""


class SqlStore:
    """The ledger's database. SQLite runs in WAL mode with full syncs: what is acknowledged on
    the bus must survive a loss of power; and what is deleted is overwritten."""

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._engine: AsyncEngine | None = None
        self._upserts: dict[Group, sa.Executable] = {}

    async def open(self) -> None:
        """Connect, and bring the schema to that of this release.

        Raises:
            Permanent: `ledger_schema_newer`, or `ledger_database_unknown` for another dialect.
            Transient: `ledger_unavailable`.
        """
        dialect = self._url.get_backend_name()
        if dialect not in _INSERT:
            raise Permanent(
                "ledger_database_unknown",
                f"MILLRACE_DATABASE_URL names {dialect!r}; use sqlite+aiosqlite or postgresql",
            )
        self._engine = create_async_engine(self._url)
        if dialect == "sqlite":
            sa.event.listen(self._engine.sync_engine, "connect", _pragmas)
        self._upserts = {group: _upsert(_INSERT[dialect], group) for group in GROUPS}
        for pause in _PAUSES:  # another ledger may be at it for longer than we wait for a lock
            with contextlib.suppress(Transient):
                await self._create(dialect)
                return
            await asyncio.sleep(pause)
        await self._create(dialect)

    async def _create(self, dialect: str) -> None:
        async with self._begin() as connection:
            await connection.run_sync(migrate)
            first = _INSERT[dialect](schema.projection).values(
                id=1, schema_version=schema.SCHEMA_VERSION, sequence=0, oldest=0, replay_from=1
            )
            await connection.execute(first.on_conflict_do_nothing())

    async def close(self) -> None:
        """Close the pool."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise Broken("ledger_closed", "the store is not open")
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, OSError) as error:
            raise Transient("ledger_unavailable", type(error).__name__) from error
        except exc.DBAPIError as error:
            if error.connection_invalidated or _passes(error):
                raise Transient("ledger_unavailable", type(error).__name__) from error
            raise Broken("ledger_statement", type(error).__name__) from error
        except (exc.SQLAlchemyError, OverflowError) as error:
            raise Broken("ledger_statement", type(error).__name__) from error

    async def position(self) -> Position:
        """Where the projection stands."""
        row = schema.projection.c
        wanted = sa.select(row.sequence, row.oldest, row.replay_from, row.replay_until)
        async with self._begin() as connection:
            found = (await connection.execute(wanted)).one()
        return Position(*found)

    async def apply(
        self, changes: Sequence[Change], sequence: int, replayed: int | None = None
    ) -> None:
        """One transaction: deletions, an `executemany` per column group, then the position."""
        async with self._begin() as connection:
            await connection.execute(_CLAIM)
            horizons = horizons_of(changes)
            for key, below in horizons.items():
                await erasing.erase(connection, key, below)
            horizons |= await erasing.known(connection, changes, horizons)
            stays = kept(changes, horizons)
            for group, rows in _rows(coalesce(stays)):
                await connection.execute(self._upserts[group], rows)
            await connection.execute(_advance(stays, sequence, replayed))
            if horizons_of(changes):
                await connection.execute(erasing.oldest())

    async def begin_replay(self, until: int, *, drop: bool = False) -> None:
        """Note the replay; with `drop`, delete every row in the same transaction."""
        values: dict[str, int] = {"replay_from": 1, "replay_until": until}
        async with self._begin() as connection:
            await connection.execute(_CLAIM)
            if drop:
                values |= {"sequence": 0, "oldest": 0}
                for table in schema.FACT_TABLES:
                    await connection.execute(sa.delete(table))
            await connection.execute(sa.update(schema.projection).values(values))

    async def tasks(self, query: TasksQuery) -> tuple[TaskSummary, ...]:
        """Tasks whose submission is known, newest first."""
        async with self._begin() as connection:
            return await queries.tasks(connection, query)

    async def sessions(self, query: SessionsQuery) -> tuple[SessionSummary, ...]:
        """Sessions, the one that was touched last first."""
        async with self._begin() as connection:
            return await queries.sessions(connection, query)

    async def requests(self, query: RequestsQuery) -> tuple[RequestLine, ...]:
        """Tasks and completions, newest first."""
        async with self._begin() as connection:
            return await requests.requests(connection, query)

    async def usage(self, query: UsageQuery) -> tuple[UsageSummary, ...]:
        """Groups over the `usage` view."""
        async with self._begin() as connection:
            return await accounts.usage(connection, query)


def _pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  # the driver's own type
    cursor = connection.cursor()
    settings = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}")
    for pragma in (*settings, "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _passes(error: exc.DBAPIError) -> bool:
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(_PASSING)


def _upsert(insert: Any, group: Group) -> sa.Executable:  # noqa: ANN401  # per dialect
    table = schema.BY_NAME[group.table]
    statement = insert(table)
    guard, new = table.c[group.guard], statement.excluded[group.guard]
    wins = new < guard if group.rule == "first" else new > guard
    built: sa.Executable = statement.on_conflict_do_update(
        index_elements=list(KEYS[group.table]),
        set_={name: statement.excluded[name] for name in (group.guard, *group.columns)},
        where=sa.or_(guard.is_(None), wins),
    )
    return built


def _rows(changes: Iterable[Change]) -> Iterable[tuple[Group, list[dict[str, object]]]]:
    for group, members in groupby(changes, key=lambda change: change.group):
        yield (
            group,
            [
                {
                    **dict(zip(KEYS[group.table], change.key, strict=True)),
                    group.guard: change.sequence,
                    **change.values,
                }
                for change in members
            ],
        )


def _advance(changes: Sequence[Change], sequence: int, replayed: int | None) -> sa.Update:
    row = schema.projection.c
    values: dict[str, object] = {
        "sequence": sa.case((row.sequence < sequence, sequence), else_=row.sequence)
    }
    if changes:
        low = min(change.sequence for change in changes)
        older = sa.or_(row.oldest == 0, row.oldest > low)
        values["oldest"] = sa.case((older, low), else_=row.oldest)
    if replayed is not None:
        values["replay_from"] = replayed
    return sa.update(schema.projection).values(values)
