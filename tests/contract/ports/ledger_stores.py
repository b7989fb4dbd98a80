"""What the tests of ledger stores share: a log, how it is fed, and all that can be asked."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec.structs import replace
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from services.ledger.core import changes_of
from services.ledger.ports import LedgerStore
from services.ledger.settings import LedgerSettings
from shared.contracts.ledger import (
    RequestsQuery,
    SessionsQuery,
    TasksQuery,
    UsageKey,
    UsageQuery,
    UsageSummary,
)
from shared.contracts.log import StoredFact
from tests.fakes.ledger_log import (
    eventful,
)

LOG = eventful()
KEYS: tuple[UsageKey, ...] = ("day", "agent", "model", "session", "task")


async def emptied(server: str) -> str:
    """The settings' URL of the server, with nothing in its schema."""
    url = LedgerSettings(database_url=SecretStr(server)).url()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        await connection.execute(sa.text("CREATE SCHEMA public"))
    await engine.dispose()
    return url


async def feed(store: LedgerStore, facts: Sequence[StoredFact], size: int = 4) -> None:
    for start in range(0, len(facts), size):
        group = facts[start : start + size]
        changes = [change for fact in group for change in changes_of(fact)]
        await store.apply(changes, max(fact.seq for fact in group))


Picture = tuple[object, ...]


async def picture(store: LedgerStore, tenant: str = "default") -> Picture:
    """All that can be asked."""
    usage = [
        await store.usage(UsageQuery(tenant=tenant, keys=keys))
        for keys in (*((key,) for key in KEYS), ("tenant",), ("agent", "model"), ("day", "session"))
    ]
    return (
        await store.tasks(TasksQuery(tenant=tenant, limit=100)),
        [[replaced(row) for row in rows] for rows in usage],
        await store.sessions(SessionsQuery(tenant=tenant, limit=100)),
        await store.requests(RequestsQuery(tenant=tenant, limit=100)),
        (await store.position()).sequence,
    )


def replaced(row: UsageSummary) -> UsageSummary:
    """With a mean that does not depend on the order of its summands."""
    return replace(row, latency=replace(row.latency, mean_ms=round(row.latency.mean_ms, 6)))


async def by(store: LedgerStore, key: UsageKey, tenant: str = "default") -> list[UsageSummary]:
    return list(await store.usage(UsageQuery(tenant=tenant, by=key)))
