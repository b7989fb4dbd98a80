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
from msgspec.structs import replace
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine

from services.ledger.adapters import schema
from services.ledger.adapters.memory import MemoryStore
from services.ledger.adapters.migrating import config_for
from services.ledger.adapters.sql import SqlStore
from services.ledger.core import changes_of, day_of
from services.ledger.handlers.questions import total
from services.ledger.ports import LedgerStore
from services.ledger.settings import LedgerSettings
from services.sessions.core.deletion import usage_of
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Deleted, Done, Refused, Usage
from shared.contracts.ledger import (
    NO_TIMES,
    Latency,
    RequestsQuery,
    SessionsQuery,
    TasksQuery,
    UsageKey,
    UsageQuery,
    UsageSummary,
)
from shared.contracts.log import KEY_HEADER, StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure
from tests.fakes import postgres
from tests.fakes.ledger_log import (
    REF,
    START,
    Recorder,
    arithmetic,
    billed,
    eventful,
    inferred,
    waits,
)

LOG = eventful()
KEYS: tuple[UsageKey, ...] = ("day", "agent", "model", "session", "task")


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


async def test_a_request_is_a_task_or_a_completion(store: LedgerStore) -> None:
    await feed(store, LOG)
    lines = await store.requests(RequestsQuery(tenant="default"))
    assert [line.id for line in lines] == ["d2", "d1", "t3", "t2", "t1"]
    task, completion = lines[-1], lines[0]
    assert (task.kind, task.status, task.model, task.worker) == ("task", "completed", "nano", "w1")
    assert (task.usage, task.price) == (Usage(input=200, cached=128, output=20), 3_000)
    assert task.latency_ms == pytest.approx(84.0, abs=0.01)
    assert task.first_token_ms == pytest.approx(11.0, abs=0.01)
    assert (completion.kind, completion.status, completion.price) == ("completion", "completed", 2)
    assert lines[2].error_code == "engine_unavailable"


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (RequestsQuery(tenant="default", limit=2), ["d2", "d1"]),
        (RequestsQuery(tenant="default", before=LOG[-2].seq), ["t3", "t2", "t1"]),
        (RequestsQuery(tenant="default", kind="completion"), ["d2", "d1"]),
        (RequestsQuery(tenant="default", session="s1"), ["t3", "t2", "t1"]),
        (RequestsQuery(tenant="default", agent="other"), []),
        (RequestsQuery(tenant="default", model="nano"), ["d2", "d1", "t2", "t1"]),
        (RequestsQuery(tenant="default", status="running"), ["t2"]),
        (RequestsQuery(tenant="default", status="failed"), ["t3"]),
        (RequestsQuery(tenant="default", id="t1"), ["t1"]),
        (RequestsQuery(tenant="default", until=START + 1.5), ["t2", "t1"]),
        (RequestsQuery(tenant="default", since=START + 86_402.0), ["d2", "d1"]),
        (RequestsQuery(tenant="default", min_ms=500.0), ["t3"]),
        (RequestsQuery(tenant="default", text="TELL"), ["t3"]),
        (RequestsQuery(tenant="default", text="_"), []),
    ],
)
async def test_requests_are_filtered(
    store: LedgerStore, query: RequestsQuery, ids: list[str]
) -> None:
    await feed(store, LOG)
    assert [line.id for line in await store.requests(query)] == ids


def direct(log: Recorder, error: Failure | None, at: float) -> None:
    """A completion of caller `ada`."""
    fact = Completed(
        id="d9", model="nano", worker="w2", usage=Usage() if error else Usage(input=5, output=1),
        price=0 if error else 7, route="fast", error=error, metadata={"user": "ada"}, key="k1",
    )  # fmt: skip
    log.add(fact, at, ref=SessionRef("default", "_direct"))


@pytest.mark.parametrize("step", [1, -1])
async def test_a_failed_completion_is_logged_and_not_billed(store: LedgerStore, step: int) -> None:
    log = Recorder()
    direct(log, Failure(code="engine_unavailable", family="transient"), 1.0)
    await feed(store, log.facts)
    (line,) = await store.requests(RequestsQuery(tenant="default", status="failed", model="nano"))
    assert (line.error_code, line.route, line.worker) == ("engine_unavailable", "fast", "w2")
    assert (line.user, line.key, line.time) == ("ada", "k1", START + 1.0)
    assert await by(store, "model") == []
    direct(log, None, 2.0)  # another worker had an answer
    await feed(store, log.facts[::step])
    (line,) = await store.requests(RequestsQuery(tenant="default"))
    assert (line.status, line.error_code, line.price) == ("completed", "", 7)
    assert [row.calls for row in await by(store, "model")] == [1]


async def test_what_was_computed_in_vain_is_billed_and_has_failed(store: LedgerStore) -> None:
    log = Recorder()
    unmet = Completed(
        id="d9", model="nano", worker="w2", usage=Usage(input=5, output=1), price=7,
        error=Failure(code="demand_unmet", family="transient"), key="k1",
    )  # fmt: skip
    log.add(unmet, 1.0, ref=SessionRef("default", "_direct"))
    await feed(store, log.facts)
    (line,) = await store.requests(RequestsQuery(tenant="default", status="failed"))
    assert (line.status, line.error_code, line.price) == ("failed", "demand_unmet", 7)
    assert not await store.requests(RequestsQuery(tenant="default", status="completed"))
    assert [(row.calls, row.price) for row in await by(store, "model")] == [(1, 7)]


async def test_embeddings_are_a_kind_of_their_own(store: LedgerStore) -> None:
    log = Recorder()
    fact = Completed(
        id="e1", kind="embedding", model="minilm", worker="retrieval", usage=Usage(input=9), price=4
    )
    log.add(fact, 1.0, ref=SessionRef("default", "_direct"))
    direct(log, None, 2.0)
    await feed(store, log.facts)
    for kind, ids in (("embedding", ["e1"]), ("completion", ["d9"]), ("task", [])):
        lines = await store.requests(RequestsQuery(tenant="default", kind=kind))  # type: ignore[arg-type]  # a Literal
        assert [line.id for line in lines] == ids
    assert {row.key: row.price for row in await by(store, "model")} == {"minilm": 4, "nano": 7}


async def test_what_was_refused_is_a_line_without_a_bill(store: LedgerStore) -> None:
    log = Recorder()
    arithmetic(log)
    refused = Refused(
        id="ref_1", code="rate_limited", status=429, route="POST /v1/tasks", count=12,
        since=START + 1, until=START + 50, key="k1",
    )  # fmt: skip
    log.add(refused, 60.0, ref=SessionRef("default", "_direct"))
    await feed(store, [*log.facts, log.facts[-1]])
    line, task = await store.requests(RequestsQuery(tenant="default"))
    assert (line.kind, line.status, line.error_code) == ("refused", "failed", "rate_limited")
    assert (line.count, line.http_status, line.key) == (12, 429, "k1")
    assert (line.time, line.until, line.route) == (START + 1, START + 50, "POST /v1/tasks")
    assert task.count == 1
    assert sum(row.calls for row in await by(store, "model")) == 2
    for query in (
        RequestsQuery(tenant="default", before=line.sequence),
        RequestsQuery(tenant="default", kind="task"),
        RequestsQuery(tenant="default", model="nano"),
        RequestsQuery(tenant="default", since=START + 2),
        RequestsQuery(tenant="default", status="completed"),
    ):
        assert line not in await store.requests(query)
    assert await store.requests(RequestsQuery(tenant="default", kind="refused")) == (line,)
    assert await store.requests(RequestsQuery(tenant="default", id="ref_1")) == (line,)


async def test_usage_is_told_by_key(store: LedgerStore) -> None:
    log = Recorder()
    given = TaskSubmitted(input="hi")
    log.facts.append(
        StoredFact(1, START, REF, "task", "assistant", "t1", given, {KEY_HEADER: "k1"})
    )
    log.add(inferred("t1", 0), 1.0)
    log.submit("t2", 2.0)
    log.add(inferred("t2", 0), 3.0)
    direct(log, None, 4.0)
    await feed(store, log.facts)
    rows = await by(store, "key")
    assert {row.key: row.price for row in rows} == {"k1": 1_507, "": 1_500}
    (own,) = await store.usage(UsageQuery(tenant="default", key="k1", by="day"))
    assert (own.price, own.latency.count) == (1_507, 2)
    query = UsageQuery(tenant="default", keys=("key", "day"), times=False)
    assert {row.price: row.latency for row in await store.usage(query)} == {
        1_507: NO_TIMES,
        1_500: NO_TIMES,
    }


async def test_a_task_tells_whose_it_is(store: LedgerStore) -> None:
    log = Recorder()
    given = TaskSubmitted(input="hi", metadata={"user": "ada", "ticket": "7"})
    stored = log.add(given, 0.0, task="t1", agent="assistant")
    trace = "0123456789abcdef" * 2
    stored.headers.update({"traceparent": f"00-{trace}-{trace[:16]}-01", "Millrace-Key": "k1"})
    await feed(store, log.facts)
    (line,) = await store.requests(RequestsQuery(tenant="default"))
    assert (line.trace_id, line.user, line.key) == (trace, "ada", "k1")
    assert (line.metadata, line.status, line.latency_ms) == (given.metadata, "queued", 0.0)


async def test_sessions_are_listed_and_filtered(store: LedgerStore) -> None:
    log = Recorder()
    log.facts = eventful()
    arithmetic(log, "t8", 90_000.0, SessionRef("default", "s2"))
    await feed(store, log.facts)
    every = await store.sessions(SessionsQuery(tenant="default"))
    assert [(one.session, one.state, one.tasks, one.open_tasks) for one in every] == [
        ("s2", "idle", 1, 0),
        ("s1", "running", 3, 1),
    ]
    assert [one.opened for one in every] == [START + 90_000.0, START]
    assert {one.agent for one in every} == {"assistant"}
    for query, names in (
        (SessionsQuery(tenant="default", state="running"), ["s1"]),
        (SessionsQuery(tenant="default", state="idle"), ["s2"]),
        (SessionsQuery(tenant="default", agent="assistant", limit=1), ["s2"]),
        (SessionsQuery(tenant="default", agent="other"), []),
        (SessionsQuery(tenant="default", before=every[0].sequence), ["s1"]),
        (SessionsQuery(tenant="default", since=START + 89_000.0), ["s2"]),
        (SessionsQuery(tenant="acme"), ["s1"]),
    ):
        assert [one.session for one in await store.sessions(query)] == names


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
