"""What every `LedgerStore` guarantees of sums, tasks and replays."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.sql import SqlStore
from services.ledger.core import day_of
from services.ledger.handlers.questions import total
from services.ledger.ports import LedgerStore
from shared.contracts.facts import Usage
from shared.contracts.ledger import (
    Latency,
    TasksQuery,
    UsageQuery,
)
from tests.contract.ports.ledger_stores import (
    KEYS,
    LOG,
    Picture,
    by,
    feed,
    picture,
)
from tests.fakes.ledger_log import (
    START,
    Recorder,
    billed,
    inferred,
)


@pytest.mark.parametrize("tenant", ["default", "acme", "nobody"])
async def test_usage_is_the_sum_over_the_log(store: LedgerStore, tenant: str) -> None:
    await feed(store, LOG)
    for key in KEYS:
        rows = total(await store.usage(UsageQuery(tenant=tenant, by=key)))
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


async def test_usage_by_several_keys_has_each_of_their_values(store: LedgerStore) -> None:
    await feed(store, LOG)
    rows = await store.usage(UsageQuery(tenant="default", keys=("agent", "model")))
    assert [row.names for row in rows] == [
        {"agent": "assistant", "model": "nano"},
        {"agent": "", "model": "nano"},
    ]
    assert [row.key for row in rows] == ["assistant/nano", "/nano"]
    assert [row.calls for row in rows] == [3, 2]


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        (UsageQuery(tenant="default", agent="assistant"), 3),
        (UsageQuery(tenant="default", agent=""), 2),
        (UsageQuery(tenant="default", task="t1"), 2),
        (UsageQuery(tenant="default", session="s1", model="nano"), 3),
        (UsageQuery(tenant="default", model="other"), 0),
        (UsageQuery(tenant="default", upto=LOG[4].seq), 2),
        (UsageQuery(tenant="default", until=day_of(START)), 3),
        (UsageQuery(tenant="acme", session="s1"), 2),
    ],
)
async def test_usage_is_filtered(store: LedgerStore, query: UsageQuery, calls: int) -> None:
    await feed(store, LOG)
    assert total(await store.usage(query)).calls == calls


async def test_usage_pages_on(store: LedgerStore) -> None:
    await feed(store, LOG)
    whole = await store.usage(UsageQuery(tenant="default", by="task"))
    first = await store.usage(UsageQuery(tenant="default", by="task", limit=2))
    rest = await store.usage(UsageQuery(tenant="default", by="task", limit=9, offset=2))
    assert first + rest == whole
    assert [len(first), len(rest)] == [2, 2]


async def test_latencies_are_those_of_calls_that_happened(store: LedgerStore) -> None:
    log = Recorder()
    for step in range(20):
        log.add(inferred("t", step, total_ms=float(step + 1)), step)
    await feed(store, log.facts)
    (row,) = await by(store, "model")
    assert row.latency == Latency(count=20, mean_ms=10.5, p50_ms=10.0, p95_ms=19.0, max_ms=20.0)


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
    tasks, usage, sessions, requests, _ = await picture(store)
    assert (tasks, sessions, requests) == ((), (), ())
    assert usage == [[]] * len(usage)  # type: ignore[arg-type]  # a list of lists
