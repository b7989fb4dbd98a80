"""Agents that ask agents, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.contracts import facts as f
from shared.contracts.base import SessionRef
from shared.contracts.log import KEY_HEADER
from shared.contracts.tasks import child_of
from shared.contracts.work import RunTool
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    (tmp_path / "boss.yaml").write_text('agents: {helper: "Does it."}\ntools: [shout]')
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


def child(task: str, step: int = 1) -> tuple[SessionRef, str]:
    return child_of(SessionRef("default", "s1"), task, step)


async def test_another_agent_answers(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("boss", "ask helper: steps 2", session="s1", key="k1")
    assert (await task.result(40)).output == "got got shout0 shout1"
    ref, name = child(task.id)
    below = await loop.client.session(ref.session).history()
    assert below[0].headers[KEY_HEADER] == "k1", "it works for the same key"
    ends = [one.fact for one in below if isinstance(one.fact, f.Done)]
    assert [(one.task, one.status) for one in ends] == [(name, "completed")]
    (told,) = [one.fact for one in await task.facts() if isinstance(one.fact, f.ToolDone)]
    assert told.spent
    assert told.spent.infer_steps == 3


async def test_an_agent_that_fails_is_an_answer_to_the_model(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("boss", "ask helper: call sudo", session="s1")
    assert (await task.result(40)).status == "completed"


async def test_a_restart_in_the_middle_asks_nobody_twice(
    loop: Loop, nats_server: NatsServer
) -> None:
    hanging, release = asyncio.Event(), asyncio.Event()

    async def hang(_work: RunTool) -> str:
        hanging.set()
        await release.wait()
        return "done"

    loop.run_call = hang
    await loop.all()
    task = await loop.client.submit("boss", "ask helper: call hang", session="s1")
    await asyncio.wait_for(hanging.wait(), 10)
    await loop.crash("sessions")
    nats_server.restart()
    await loop.start("sessions")
    release.set()
    assert (await task.result(40)).output == "got got done"
    ref, name = child(task.id)
    below = await loop.client.session(ref.session).history()
    assert [one.task for one in below if one.kind == "accepted"] == [name]


async def test_a_cancelled_task_stops_whom_it_asked(loop: Loop) -> None:
    hanging, release = asyncio.Event(), asyncio.Event()

    async def hang(_work: RunTool) -> str:
        hanging.set()
        await release.wait()
        return "done"

    loop.run_call = hang
    await loop.all()
    task = await loop.client.submit("boss", "ask helper: call hang", session="s1")
    await asyncio.wait_for(hanging.wait(), 10)
    await task.cancel()
    assert (await task.result(40)).status == "cancelled"
    ref, name = child(task.id)
    ended = await loop.client.task(name, ref.session).result(40)
    release.set()
    assert ended.status == "cancelled"
    assert [one for one in await task.facts() if one.kind == "tool_done"] == []
