"""The request log and the lists of every `LedgerStore`: what is a line, and what it says."""

from __future__ import annotations

import pytest

from services.ledger.ports import LedgerStore
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Refused, Usage
from shared.contracts.ledger import (
    NO_TIMES,
    RequestsQuery,
    SessionsQuery,
    TasksQuery,
    UsageQuery,
)
from shared.contracts.log import KEY_HEADER, StoredFact
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure
from tests.contract.ports.ledger_stores import (
    LOG,
    by,
    feed,
)
from tests.fakes.ledger_log import (
    REF,
    START,
    Recorder,
    arithmetic,
    eventful,
    inferred,
    waits,
)


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
