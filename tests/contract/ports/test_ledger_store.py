"""What every `LedgerStore` guarantees: run against SQLite on disk, PostgreSQL where the machine has
one, and the in-memory twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from services.ledger.adapters import schema
from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.migrating import config_for
from services.ledger.adapters.sql import SqlStore
from services.ledger.core import changes_of
from services.ledger.handlers import total
from services.ledger.ports import LedgerStore
from services.ledger.settings import LedgerSettings
from services.sessions.core.deletion import usage_of
from shared.contracts.facts import Deleted, Done, Usage
from shared.contracts.ledger import TasksQuery, TaskSummary, UsageQuery, UsageSummary
from shared.contracts.log import StoredFact
from tests.fakes import postgres
from tests.fakes.ledger_log import REF, START, Recorder, arithmetic, billed, eventful, waits

LOG = eventful()
KEYS = ("day", "agent", "model", "session", "task")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.running() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LedgerStore]:
    made: LedgerStore = MemoryStore()
    if request.param == "sqlite":
        made = SqlStore(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}")
    elif request.param == "postgresql":
        made = SqlStore(await emptied(request.getfixturevalue("server")))
    await made.open()
    yield made
    await made.close()


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


Picture = tuple[tuple[TaskSummary, ...], dict[str, tuple[UsageSummary, ...]], int]


async def picture(store: LedgerStore, tenant: str = "default") -> Picture:
    tasks = await store.tasks(TasksQuery(tenant=tenant, limit=100))
    usage = {by: await store.usage(UsageQuery(tenant=tenant, by=by)) for by in KEYS}
    return tasks, usage, (await store.position()).sequence


@pytest.fixture
async def expected() -> Picture:
    twin = MemoryStore()
    await feed(twin, LOG)
    return await picture(twin)


@pytest.mark.parametrize("tenant", ["default", "acme", "nobody"])
async def test_usage_is_the_sum_over_the_log(store: LedgerStore, tenant: str) -> None:
    await feed(store, LOG)
    for by in KEYS:
        rows = total(await store.usage(UsageQuery(tenant=tenant, by=by)))
        assert (rows.usage, rows.price) == billed(LOG, tenant)


async def test_both_stores_tell_the_same(store: LedgerStore, expected: Picture) -> None:
    await feed(store, LOG)
    assert await picture(store) == expected


async def test_a_replay_changes_nothing(store: LedgerStore, expected: Picture) -> None:
    await feed(store, LOG)
    await feed(store, LOG, size=7)
    assert await picture(store) == expected


async def test_facts_backwards_and_one_by_one_give_the_same(
    store: LedgerStore, expected: Picture
) -> None:
    await feed(store, LOG[::-1], size=1)
    assert await picture(store) == expected


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_any_order_and_repetition_gives_the_same_in_memory(data: st.DataObject) -> None:
    await _check_deliveries(MemoryStore(), data)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_any_order_and_repetition_gives_the_same_in_sql(data: st.DataObject) -> None:
    await _check_deliveries(SqlStore("sqlite+aiosqlite://"), data)


async def _check_deliveries(store: LedgerStore, data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(LOG), max_size=12))
    order = data.draw(st.permutations(LOG + again))
    size = data.draw(st.integers(1, len(order)))
    twin = MemoryStore()
    await feed(twin, LOG)
    await store.open()
    try:
        await feed(store, order, size)
        assert await picture(store) == await picture(twin)
        assert await picture(store, "acme") == await picture(twin, "acme")
    finally:
        await store.close()


async def test_the_first_result_of_a_step_wins(store: LedgerStore) -> None:
    await feed(store, LOG)
    (running,) = await store.tasks(TasksQuery(tenant="default", status="running"))
    assert running.task == "t2"
    assert (running.steps, running.infer_steps, running.tool_steps) == (2, 1, 1)
    assert running.usage == Usage(input=100, cached=64, output=10)


async def test_a_finished_task_has_times_totals_and_words(store: LedgerStore) -> None:
    await feed(store, LOG)
    (task,) = await store.tasks(TasksQuery(tenant="default", task="t1"))
    assert (task.status, task.agent, task.revision) == ("completed", "assistant", 3)
    assert task.submitted == START
    assert task.queue_ms == pytest.approx(2.0, abs=0.01)
    assert (task.steps, task.price) == (3, 3_000)
    assert (task.input, task.output) == ("17 * 23?", "It is 391.")


async def test_tasks_page_backwards_and_filter(store: LedgerStore) -> None:
    await feed(store, LOG)
    newest = await store.tasks(TasksQuery(tenant="default", limit=1))
    older = await store.tasks(TasksQuery(tenant="default", before=newest[0].sequence))
    failed = await store.tasks(TasksQuery(tenant="default", status="failed"))
    assert [task.task for task in newest] == ["t3"]
    assert [task.task for task in older] == ["t2", "t1"]
    assert [(task.task, task.error_code) for task in failed] == [("t3", "engine_unavailable")]
    assert await store.tasks(TasksQuery(tenant="default", session="none")) == ()


async def test_usage_by_day_and_since(store: LedgerStore) -> None:
    await feed(store, LOG)
    days = await store.usage(UsageQuery(tenant="default", by="day"))
    later = await store.usage(UsageQuery(tenant="default", by="day", since=days[1].key))
    assert [day.calls for day in days] == [3, 2]
    assert later == days[1:]


async def test_a_new_store_owes_everything_and_notes_its_replay(store: LedgerStore) -> None:
    assert (await store.position()).replay_until is None
    await store.begin_replay(10)
    await store.apply([], 4, replayed=5)
    position = await store.position()
    assert (position.replay_from, position.replay_until, position.replaying) == (5, 10, True)
    await store.apply([], 10, replayed=11)
    assert not (await store.position()).replaying


async def test_dropping_forgets_every_row(store: LedgerStore) -> None:
    await feed(store, LOG)
    before = await store.position()
    await store.begin_replay(before.sequence, drop=True)
    position = await store.position()
    assert (before.oldest, position.oldest, position.sequence) == (1, 0, 0)
    tasks, usage, _ = await picture(store)
    assert not tasks
    assert not any(usage.values())


@pytest.mark.parametrize("step", [1, -1])
async def test_a_task_is_parked_while_a_step_of_it_waits_for_a_person(
    store: LedgerStore, step: int
) -> None:
    await feed(store, waits()[::step])
    for status, tasks in (("parked", {"p1", "p3"}), ("running", {"p2", "p4"})):
        found = await store.tasks(TasksQuery(tenant="default", status=status))
        assert {task.task for task in found} == tasks


async def test_a_failure_that_is_tried_again_is_no_result(store: LedgerStore) -> None:
    await feed(store, waits())
    (task,) = await store.tasks(TasksQuery(tenant="default", task="p2"))
    assert (task.infer_steps, task.tool_steps) == (1, 0)


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
    tasks, usage, _ = await picture(store)
    assert tasks == ()
    assert {row.key for row in usage["model"]} == {"nano"}
    assert {row.key for row in usage["agent"]} == {"assistant", ""}
    for by in KEYS:
        rows = total(usage[by])
        assert (rows.usage, rows.price) == billed(LOG, "default") == billed(FORGOTTEN, "default")
    calls = {row.key: row.calls for row in await store.usage(UsageQuery(tenant="default"))}
    assert calls == {row.key: row.calls for row in usage["day"]}
    assert sum(calls.values()) == 5
    acme, _, _ = await picture(store, "acme")
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
    assert await store.usage(UsageQuery(tenant="default", by="session")) == before
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
