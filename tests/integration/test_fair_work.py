"""A worker with a single slot and more work than it can do: who gets an answer first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.client import Millrace, Task
from shared.contracts.agents import Priority
from shared.contracts.facts import Inferred
from shared.contracts.tasks import Terms
from shared.subjects import lane_of
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
MANY = 12


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        loop.slots, loop.seconds_per_token = 1, 0.01
        await loop.all()
        yield loop


async def flood(client: Millrace, priority: Priority = "interactive") -> list[Task]:
    """Tasks in sessions of their own; the first one is being answered."""
    terms = Terms(priority=priority)
    tasks = [
        await client.submit("helper", f"say number {n}", session=f"f{n}", terms=terms)
        for n in range(MANY)
    ]
    await until(lambda: begun(tasks))
    return tasks


async def begun(tasks: list[Task]) -> bool:
    return await answered(tasks) > 0


async def answered(tasks: list[Task]) -> int:
    """How many have an answer of the model."""
    facts = [stored.fact for task in tasks for stored in await task.facts()]
    return sum(isinstance(fact, Inferred) for fact in facts)


async def test_one_tenants_flood_is_not_in_the_way_of_another(loop: Loop) -> None:
    assert lane_of("default", "interactive") != lane_of("acme", "interactive")
    tasks = await flood(loop.client)
    late = await loop.client.for_tenant("acme").submit("helper", "say hello")
    assert (await late.result(30)).output == "hello"
    assert await answered(tasks) < MANY - 3
    assert {(await task.result(30)).status for task in tasks} == {"completed"}


async def test_batches_wait_for_those_who_come_later(loop: Loop) -> None:
    tasks = await flood(loop.client, "batch")
    late = await loop.client.submit("helper", "say hello")
    assert (await late.result(30)).output == "hello"
    assert await answered(tasks) < MANY - 3
    assert {(await task.result(30)).status for task in tasks} == {"completed"}


async def test_what_waits_at_a_worker_that_stops_is_done_by_another(loop: Loop) -> None:
    tasks = await flood(loop.client)
    await loop.start("w2")
    await loop.stop("w1")
    assert {(await task.result(30)).status for task in tasks} == {"completed"}
    facts = [stored.fact for task in tasks for stored in await task.facts()]
    answers = [fact for fact in facts if isinstance(fact, Inferred)]
    assert len(answers) == MANY
    assert {fact.worker for fact in answers} == {"w1", "w2"}


async def test_an_aborted_task_leaves_the_line(loop: Loop) -> None:
    tasks = await flood(loop.client)
    await tasks[-1].cancel()
    assert (await tasks[-1].result(30)).status == "cancelled"
    assert {(await task.result(30)).status for task in tasks[:-1]} == {"completed"}
    assert await answered(tasks[-1:]) == 0
