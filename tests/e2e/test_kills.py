"""kill -9 of each process in mid-task: the tasks still end, once each, with the right answer."""

from __future__ import annotations

import asyncio

import pytest

from shared.client import Millrace, Task
from shared.contracts.facts import Inferred, ToolDone
from tests.e2e.running import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
TASKS = 12


async def _until_first_answer(task: Task) -> None:
    """Wait until the model has spoken once: the task is in the middle of its loop."""
    async for event in task.events():
        if event.kind == "inferred":
            return


async def _survive(system: System, victim: str) -> None:
    async with Millrace.connect(data=system.data) as m:
        numbers = range(11, 11 + TASKS)
        tasks = [
            await m.submit("assistant", f"What is {n} * 7?", session=f"kill-{victim}-{n}")
            for n in numbers
        ]
        await _until_first_answer(tasks[0])
        killed = system.kill(victim)
        ends = await asyncio.gather(*(task.result(90) for task in tasks))
        for n, task, done in zip(numbers, tasks, ends, strict=True):
            assert done.status == "completed", (n, done)
            assert str(n * 7) in done.output
            await _assert_each_step_once(task)
        system.await_restart(victim, killed)
    system.await_ready()


async def _assert_each_step_once(task: Task) -> None:
    """Invariants 1 and 2: one `done`, and no step has two results."""
    facts = await task.facts()
    assert [fact.kind for fact in facts].count("done") == 1
    steps = [fact.fact.step for fact in facts if isinstance(fact.fact, Inferred | ToolDone)]
    assert len(steps) == len(set(steps))


@pytest.mark.parametrize("victim", ["sessions", "router", "inference", "tools", "nats"])
async def test_tasks_survive_the_death_of(system: System, victim: str) -> None:
    await _survive(system, victim)


@pytest.mark.parametrize("victim", ["ingress", "ledger", "retrieval"])
async def test_tasks_do_not_notice_the_death_of(system: System, victim: str) -> None:
    await _survive(system, victim)


async def test_a_lookup_waits_for_retrieval_to_come_back(system: System) -> None:
    async with Millrace.connect(data=system.data) as m:
        docs = m.documents()
        sequence = await docs.upsert("gym.md", "# Gym\n\nThe gym fee is 19 euros per month.")
        await docs.search("gym fee", min_seq=sequence)
        killed = system.kill("retrieval")
        task = await m.submit("assistant", "What is the gym fee?")
        done = await task.result(90)
        system.await_restart("retrieval", killed)
    assert done.status == "completed"
    assert "19" in done.output
    system.await_ready()
