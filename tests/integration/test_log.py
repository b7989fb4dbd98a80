"""The log: a fact is stored once, unique facts for ever, and nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio

import pytest

from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Accepted, Cancelled, Done, Inferred, ToolDone, ToolFailed
from shared.contracts.log import Malformed
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Failure, Transient
from shared.subjects import session_prefix, snapshot_subject, task_subject
from tests.integration.broker_process import NatsServer

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")


def accepted(task: str, source: int = 1) -> Accepted:
    return Accepted(
        task=task,
        agent=AgentSpec(name="plain"),
        revision=1,
        limits=Limits(),
        sampling=Sampling(),
        deadline=0.0,
        source=source,
    )


@pytest.fixture
def log(bus: Bus) -> RunLog:
    return RunLog(bus)


async def test_a_repeated_fact_is_stored_once(log: RunLog) -> None:
    fact = Inferred(task="t1", step=0, content="hello")
    first, again = await log.append(REF, fact), await log.append(REF, fact)
    assert (again.seq, again.duplicate) == (first.seq, True)
    assert [one.fact for one in await log.read(REF)] == [fact]


async def test_the_first_result_of_a_step_wins(log: RunLog) -> None:
    done = ToolDone(task="t1", step=1, call="c", name="x", result="first")
    late = ToolFailed(task="t1", step=1, call="c", name="x", error=Failure(code="late"))
    await log.append(REF, done)
    assert (await log.append(REF, late)).duplicate
    assert [one.fact for one in await log.read(REF)] == [done]


@pytest.mark.parametrize("fact", [accepted("t1"), Done(task="t1", status="completed")])
async def test_a_unique_fact_is_refused_for_ever_and_answered_with_its_place(
    log: RunLog, bus: Bus, fact: Accepted | Done
) -> None:
    first = await log.append(REF, fact)
    body = await bus.api("STREAM.INFO.RUNS")
    other = (
        accepted("t1", source=9) if isinstance(fact, Accepted) else Done(task="t1", status="failed")
    )
    second = await log.append(REF, other)
    assert (second.seq, second.duplicate) == (first.seq, True)
    after = await bus.api("STREAM.INFO.RUNS")
    assert after["state"]["last_seq"] == body["state"]["last_seq"]


async def test_the_same_task_in_two_sessions_has_its_own_end_in_each(log: RunLog) -> None:
    other = SessionRef("other", "s1")
    done = Done(task="t1", status="completed")
    assert not (await log.append(REF, done)).duplicate
    assert not (await log.append(other, done)).duplicate


async def test_a_long_session_is_read_whole_and_in_order(log: RunLog, bus: Bus) -> None:
    await append_many(bus, 2500)
    stored = await log.read(REF)
    assert [fact.fact.step for fact in stored] == list(range(2500))
    assert [fact.seq for fact in stored] == sorted(fact.seq for fact in stored)
    middle = stored[1700].seq
    assert [fact.seq for fact in await log.read(REF, middle)] == [
        fact.seq for fact in stored[1701:]
    ]
    page, upto = await log.read_page("run.>", middle)
    assert page[0].seq == stored[1701].seq
    assert upto == stored[-1].seq
    assert await log.read_page("run.>", upto) == ([], upto)
    assert await log.head(REF, 100) == (stored[:100], False)


async def test_the_head_of_a_short_session_is_all_of_it_unless_something_else_is_there(
    log: RunLog, bus: Bus
) -> None:
    for step in range(3):
        await log.append(REF, Inferred(task="t1", step=step))
    assert await log.head(REF, 100) == (await log.read(REF), True)
    await bus.publish(snapshot_subject(REF), b"{}", {"Nats-Rollup": "sub"})
    assert await log.head(REF, 100) == (await log.read(REF), False)
    assert await log.head(SessionRef("default", "empty"), 100) == ([], True)


async def append_many(bus: Bus, count: int) -> None:
    log = RunLog(bus)
    for start in range(0, count, 500):
        await asyncio.gather(
            *(log.append(REF, Inferred(task="t1", step=start + n)) for n in range(500))
        )


async def test_an_empty_session_has_no_facts(log: RunLog) -> None:
    assert await log.read(SessionRef("default", "never")) == []


async def test_a_task_is_found_by_its_id_in_its_tenant_only(log: RunLog) -> None:
    await log.append(REF, accepted("t1"))
    await log.append(REF, Done(task="t2", status="failed"))
    assert await log.find_task("default", "t1") == REF
    assert await log.find_task("default", "t2") == REF
    assert await log.find_task("other", "t1") is None
    assert await log.find_task("default", "t3") is None


async def test_what_cannot_be_read_does_not_stop_the_reader(log: RunLog, bus: Bus) -> None:
    await bus.publish(task_subject(REF, "plain"), b"no json")
    await bus.publish(f"{session_prefix(REF)}.of_a_later_release", b"{}")
    await log.append(REF, Cancelled(task="t1"))
    stored = await log.read(REF)
    assert [fact.kind for fact in stored] == ["task", "cancelled"]
    assert isinstance(stored[0].fact, Malformed)


async def test_whose_turn_it_was_at_a_place(log: RunLog) -> None:
    first = await log.append(REF, accepted("t1"))
    spoken = await log.append(REF, Inferred(task="t1", step=0))
    await log.append(REF, Done(task="t1", status="completed"))
    assert [fact.seq for fact in await log.turns(REF, first.seq)] == [first.seq]
    assert [fact.seq for fact in await log.turns(REF, spoken.seq)] == [first.seq, spoken.seq]


async def test_a_lost_broker_is_a_transient_failure(log: RunLog, nats_server: NatsServer) -> None:
    nats_server.kill()
    try:
        with pytest.raises(Transient) as refused:
            await log.append(REF, Cancelled(task="t1"), patience=0.3)
        assert refused.value.code == "bus_unavailable"
        with pytest.raises(Transient):
            await asyncio.wait_for(log.read(REF), 10)
    finally:
        await asyncio.to_thread(nats_server.restart)


async def test_sigkill_loses_and_repeats_nothing_that_was_acknowledged(
    log: RunLog, nats_server: NatsServer
) -> None:
    acknowledged: dict[int, int] = {}

    async def write(writer: int) -> None:
        for n in range(60):
            step = writer * 1000 + n
            acknowledged[step] = (await log.append(REF, Inferred(task="t1", step=step))).seq

    writers = [asyncio.create_task(write(n)) for n in range(8)]
    for _ in range(2):
        await asyncio.sleep(0.05)
        await asyncio.to_thread(nats_server.restart)
    await asyncio.gather(*writers)
    stored = {fact.fact.step: fact.seq for fact in await log.read(REF)}
    assert len(acknowledged) == len(await log.read(REF)) == 480
    assert stored == acknowledged


async def test_a_task_can_be_submitted_without_any_client_of_ours(log: RunLog, bus: Bus) -> None:
    ack = await bus.publish("tasks.default.plain.s1", encode(TaskSubmitted(input="x")))
    [stored] = await log.read(REF)
    assert (stored.task, stored.rest, stored.seq) == (f"t{ack.seq}", "plain", ack.seq)
