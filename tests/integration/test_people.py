"""What people do to a real loop through the client, and that its log follows from itself after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.client import Task
from shared.contracts.agents import LimitsPatch
from shared.errors import Permanent
from shared.timeline import timeline
from shared.waiting import waiting
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        await loop.all()
        yield loop


async def parked(task: Task) -> None:
    async def waits() -> bool:
        return bool(waiting(await task.facts()))

    await until(waits)


async def refused(task: Task, code: str) -> None:
    with pytest.raises(Permanent) as caught:
        await task.approve(1)
    assert caught.value.code == code


async def consistent(loop: Loop, *sessions: str) -> None:
    """Nothing in the logs that the decider would not do."""
    for name in sessions:
        found = await loop.client.session(name).check()
        assert found.difference is None
        assert found.facts


async def test_a_call_that_waits_is_approved_with_other_arguments(loop: Loop) -> None:
    task = await loop.client.submit("careful", "call pay", session="s1")
    await parked(task)
    line = timeline(await task.facts(), task.id)
    assert line is not None
    assert (line.status, line.rows[-1].waits) == ("parked", "approval")
    await task.approve(arguments='{"n": 7}', by="kim")
    done = await task.result(40)
    assert (done.status, loop.calls[-1].arguments) == ("completed", '{"n": 7}')
    await refused(task, "task_ended")
    await consistent(loop, "s1")


async def test_a_call_that_waits_is_rejected_or_answered_by_hand(loop: Loop) -> None:
    first = await loop.client.submit("careful", "call pay", session="s1")
    second = await loop.client.submit("careful", "call pay", session="s2")
    await asyncio.gather(parked(first), parked(second))
    await first.reject(note="not today")
    await second.approve(result="paid by hand")
    assert "not today" in (await first.result(40)).output
    assert "paid by hand" in (await second.result(40)).output
    assert not loop.calls
    await consistent(loop, "s1", "s2")


async def test_a_task_at_its_limit_gets_a_higher_one(loop: Loop) -> None:
    task = await loop.client.submit("thrifty", "steps 4", session="s1")
    await parked(task)
    await task.approve(limits=LimitsPatch(max_steps=20))
    assert (await task.result(40)).status == "completed"
    await consistent(loop, "s1")


async def test_a_task_that_failed_goes_on_as_a_new_one(loop: Loop) -> None:
    task = await loop.client.submit("strict", "steps 4", session="s1")
    assert (await task.result(40)).status == "failed"
    again = await task.retry()
    await again.result(40)
    with pytest.raises(Permanent, match="superseded"):
        await task.retry()
    await consistent(loop, "s1")


async def test_cancel_in_the_middle_of_an_approval(loop: Loop) -> None:
    task = await loop.client.submit("careful", "call pay", session="s1")
    await parked(task)
    await task.cancel("kim", "enough")
    assert (await task.result(40)).status == "cancelled"
    await consistent(loop, "s1")


async def test_what_is_said_to_a_running_task_is_in_its_log(loop: Loop) -> None:
    task = await loop.client.submit("careful", "call pay", session="s1")
    await parked(task)
    for _ in range(2):
        await task.steer("say hello", id="one", by="kim")
    busy = await loop.client.submit("careful", "say no", session="s1")
    rejected = await busy.result(40)
    assert (rejected.status, rejected.error and rejected.error.code) == ("failed", "session_busy")
    joined = await loop.client.submit("careful", "say bye", session="s1", on_busy="steer")
    assert (await joined.result(40)).joined == task.id
    await task.approve()
    assert (await task.result(40)).status == "completed"
    line = timeline(await task.facts(), task.id)
    assert line is not None
    kinds = [note.kind for note in line.notes]
    assert kinds.count("steered") == 2
    await consistent(loop, "s1")
