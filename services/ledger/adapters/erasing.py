"""Deleted sessions in SQL: their rows go, and older facts of theirs find no way in again."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.ledger.adapters import schema
from services.ledger.core import CONTENT, GROUPS, Change, Horizons, Key


async def erase(connection: AsyncConnection, key: Key, below: int) -> None:
    """Delete the rows of a session that were begun by a fact below a sequence."""
    tenant, session = key
    for name in CONTENT:
        table = schema.BY_NAME[name]
        older = [table.c[group.guard] < below for group in GROUPS if group.table == name]
        mine = (table.c.tenant == tenant, table.c.session == session)
        await connection.execute(sa.delete(table).where(*mine, sa.or_(*older)))


async def known(connection: AsyncConnection, changes: Iterable[Change], new: Horizons) -> Horizons:
    """The deletions that concern some changes, as far as they are recorded or just came."""
    keys = {change.key[:2] for change in changes if change.group.table in CONTENT}
    if not keys:
        return {}
    row = schema.deletions.c
    wanted = sa.select(row.tenant, row.session, row.below).where(
        sa.tuple_(row.tenant, row.session).in_(sorted(keys))
    )
    found = (await connection.execute(wanted)).all()
    return {
        (tenant, session): max(below, new.get((tenant, session), 0))
        for tenant, session, below in found
    }


def oldest() -> sa.Update:
    """The lowest sequence that anything still comes from: a log that begins there can rebuild."""
    guards = {(group.table, group.guard) for group in GROUPS}
    lowest = [
        sa.select(sa.func.min(schema.BY_NAME[table].c[guard]).label("seq"))
        for table, guard in sorted(guards)
    ]
    every = sa.union_all(*lowest).subquery()
    first = sa.select(sa.func.coalesce(sa.func.min(every.c.seq), 0)).scalar_subquery()
    return sa.update(schema.projection).values(oldest=first)
