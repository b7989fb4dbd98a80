"""Deleted sessions in every `LedgerStore`, and several writers of one PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from alembic import command
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import create_async_engine

from services.ledger.adapters import schema
from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.migrating import config_for
from services.ledger.adapters.sql import SqlStore
from services.ledger.handlers.questions import total
from services.ledger.ports import LedgerStore
from services.sessions.core.deletion import usage_of
from shared.contracts.facts import Deleted, Done
from shared.contracts.ledger import (
    NO_TIMES,
    RequestsQuery,
    SessionsQuery,
    TasksQuery,
    UsageQuery,
)
from shared.contracts.log import StoredFact
from tests.contract.ports.ledger_stores import (
    KEYS,
    LOG,
    Picture,
    by,
    emptied,
    feed,
    picture,
)
from tests.fakes.ledger_log import (
    REF,
    Recorder,
    arithmetic,
    billed,
    eventful,
)


def forgotten() -> list[StoredFact]:
    """The eventful log, with the end of `default/s1`, its deletion, and a life after it."""
    log = Recorder()
    log.facts = eventful()
    log.add(Done(task="t2", status="cancelled"), 90_000.0)
    history = [fact for fact in log.facts if fact.ref == REF]
    log.add(Deleted(upto=len(log.facts), usage=usage_of(history)), 90_001.0)
    return log.facts


FORGOTTEN = forgotten()


async def test_a_deleted_session_leaves_numbers_and_nothing_else(store: LedgerStore) -> None:
    await feed(store, FORGOTTEN)
    assert await store.tasks(TasksQuery(tenant="default")) == ()
    assert await store.sessions(SessionsQuery(tenant="default")) == ()
    assert {row.kind for row in await store.requests(RequestsQuery(tenant="default"))} == {
        "completion"
    }
    assert {row.key for row in await by(store, "model")} == {"nano"}
    assert {row.key for row in await by(store, "agent")} == {"assistant", ""}
    for key in KEYS:
        rows = total(await by(store, key))
        assert (rows.usage, rows.price) == billed(LOG, "default") == billed(FORGOTTEN, "default")
    assert sum(row.calls for row in await by(store, "day")) == 5
    acme = await store.tasks(TasksQuery(tenant="acme"))
    assert [task.task for task in acme] == ["t1"]


@pytest.mark.parametrize("size", [1, 3, 50])
async def test_what_comes_again_after_a_deletion_stays_away(store: LedgerStore, size: int) -> None:
    twin = MemoryStore()
    await feed(twin, FORGOTTEN)
    await feed(store, FORGOTTEN, size)
    await feed(store, FORGOTTEN[::-1], size)
    assert await picture(store) == await picture(twin)


async def test_a_deleted_session_may_be_used_again_and_be_deleted_again(store: LedgerStore) -> None:
    log = Recorder()
    log.facts = list(FORGOTTEN)
    arithmetic(log, "t1", 90_010.0)  # the very task id that it had before
    await feed(store, log.facts, size=50)
    (task,) = await store.tasks(TasksQuery(tenant="default"))
    assert (task.task, task.steps, task.input) == ("t1", 3, "17 * 23?")
    before = await store.usage(UsageQuery(tenant="default", by="session"))
    history = [fact for fact in log.facts if fact.ref == REF and fact.seq > len(FORGOTTEN) - 1]
    log.add(Deleted(upto=len(log.facts), usage=usage_of(history)), 90_020.0)
    await feed(store, log.facts[-1:])
    assert await store.tasks(TasksQuery(tenant="default")) == ()
    after = await store.usage(UsageQuery(tenant="default", by="session"))
    assert [replace(row, latency=NO_TIMES) for row in before] == [
        replace(row, latency=NO_TIMES) for row in after
    ]
    assert total(before).usage == billed(log.facts, "default")[0]


async def test_a_log_without_the_deleted_facts_can_rebuild_it(store: LedgerStore) -> None:
    purged = [one for one in FORGOTTEN if one.ref != REF or one.seq > FORGOTTEN[-1].seq - 1]
    await feed(store, FORGOTTEN)
    assert (await store.position()).oldest == purged[0].seq
    before = await picture(store)
    await store.begin_replay(FORGOTTEN[-1].seq, drop=True)
    await feed(store, purged)
    assert await picture(store) == before


async def test_several_make_and_write_one_postgresql(server: str, expected: Picture) -> None:
    """They start at once on nothing, each writes every fact, and one picture comes of it."""
    url = await emptied(server)
    stores = [SqlStore(url) for _ in range(4)]
    await asyncio.gather(*(one.open() for one in stores))
    orders = (LOG, LOG[::-1], LOG[3:] + LOG[:3], LOG[1::2] + LOG[::2])
    await asyncio.gather(*(feed(one, log, 2) for one, log in zip(stores, orders, strict=True)))
    assert [await picture(one) for one in stores] == [expected] * 4
    await asyncio.gather(*(one.close() for one in stores))


async def test_a_deletion_holds_against_another_writer(server: str) -> None:
    """One replica deletes while the other writes what lies before, over and over."""
    url = await emptied(server)
    twin, stores = MemoryStore(), [SqlStore(url), SqlStore(url)]
    await feed(twin, FORGOTTEN)
    await asyncio.gather(*(one.open() for one in stores))
    for _ in range(5):
        both = feed(stores[0], FORGOTTEN[-1:]), feed(stores[1], FORGOTTEN[:-1], 1)
        await asyncio.gather(*both)
    assert await picture(stores[0]) == await picture(twin)
    await asyncio.gather(*(one.close() for one in stores))


async def test_the_migrations_agree_with_the_metadata_on_postgresql(server: str) -> None:
    url = await emptied(server)
    store = SqlStore(url)
    await store.open()
    await store.close()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: command.check(config_for(sync)))
        await connection.execute(sa.select(schema.usage))
    await engine.dispose()
