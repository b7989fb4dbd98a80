"""The agent loop on a real server: tasks run, wait, fail, stop; every one ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.contracts.agents import AgentSpec, LimitsPatch
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Done, Inferred, ToolDone, ToolFailed
from shared.contracts.log import task_id_of
from shared.contracts.work import RunTool
from shared.errors import Permanent
from shared.subjects import AGENTS
from tests.integration.broker_process import NatsServer
from tests.integration.jobs import letters
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def kinds(loop: Loop, session: str) -> list[str]:
    return [fact.kind for fact in await loop.client.session(session).history()]


async def ends(loop: Loop, session: str) -> list[str]:
    """The tasks of a session that ended, one entry for each `done`."""
    history = await loop.client.session(session).history()
    return [fact.task for fact in history if isinstance(fact.fact, Done)]


async def has(loop: Loop, session: str, kind: str) -> bool:
    return kind in await kinds(loop, session)


async def test_an_answer(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "say hello", session="s1")
    done = await task.result(40)
    assert (done.status, done.output, done.totals.infer_steps) == ("completed", "hello", 1)
    assert await kinds(loop, "s1") == ["task", "accepted", "inferred", "done"]


async def test_parallel_calls_are_answered_in_the_order_of_the_calls(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "tools 5", session="s1")
    done = await task.result(40)
    assert done.output == "got shout0 shout1 shout2 shout3 shout4"
    assert (done.totals.steps, done.totals.tool_steps) == (7, 5)
    assert sorted(call.step for call in loop.calls) == [1, 2, 3, 4, 5]


async def test_the_session_remembers(loop: Loop) -> None:
    await loop.all()
    for n in range(3):
        task = await loop.client.submit("helper", f"steps {n}", session="s1")
        assert (await task.result(40)).status == "completed"
    history = await loop.client.session("s1").history()
    spoken = [fact.fact for fact in history if isinstance(fact.fact, Inferred)]
    assert len(spoken) == 1 + 2 + 3
    assert spoken[-1].usage.input > spoken[0].usage.input


async def test_two_tasks_of_a_session_run_one_after_the_other(loop: Loop) -> None:
    await loop.all()
    tasks = [await loop.client.submit("helper", f"say {n}", session="s1") for n in range(5)]
    results = [await task.result(40) for task in tasks]
    assert [done.output for done in results] == ["0", "1", "2", "3", "4"]
    assert await ends(loop, "s1") == [task.id for task in tasks]
    order = [kind for kind in await kinds(loop, "s1") if kind in ("accepted", "done")]
    assert order == ["accepted", "done"] * 5


async def test_many_sessions_side_by_side(loop: Loop) -> None:
    await loop.all()
    tasks = [await loop.client.submit("helper", "tools 2", session=f"s{n}") for n in range(40)]
    results = await asyncio.gather(*(task.result(40) for task in tasks))
    assert {done.output for done in results} == {"got shout0 shout1"}


async def test_a_malformed_task_is_answered_and_kept(loop: Loop, bus: Bus) -> None:
    await loop.all()
    ack = await bus.publish("tasks.default.helper.s1", b'{"input": 7}')
    done = await loop.client.task(task_id_of(ack.seq, {}), "s1").result(40)
    assert done.status == "failed"
    assert done.error
    assert done.error.code == "invalid_task"
    await until(lambda: letters(bus))
    [letter] = await letters(bus)
    assert (letter.consumer, letter.body) == ("sessions", '{"input": 7}')
    good = await loop.client.submit("helper", "say on", session="s1")
    assert (await good.result(40)).output == "on"


async def test_a_malformed_task_as_long_as_the_bus_allows(loop: Loop, bus: Bus) -> None:
    await loop.all()
    ack = await bus.publish("tasks.default.helper.s1", b"\x01" * 1_000_000)
    done = await loop.client.task(task_id_of(ack.seq, {}), "s1").result(40)
    assert done.error
    assert done.error.code == "invalid_task"


@pytest.mark.parametrize(
    ("agent", "order", "code"),
    [
        ("nobody", "say x", "unknown_agent"),
        ("astray", "say x", "unknown_route"),
        ("strict", "steps 5", "step_limit"),
    ],
)
async def test_what_cannot_succeed_fails_with_its_reason(
    loop: Loop, agent: str, order: str, code: str
) -> None:
    await loop.all()
    task = await loop.client.submit(agent, order, session="s1")
    done = await task.result(40)
    assert done.status == "failed"
    assert done.error
    assert done.error.code == code


async def test_a_tool_that_the_agent_does_not_have_is_an_answer_to_the_model(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "call sudo", session="s1")
    assert (await task.result(40)).status == "completed"
    failed = [f.fact for f in await task.facts() if isinstance(f.fact, ToolFailed)]
    assert [one.error.code for one in failed] == ["tool_not_allowed"]
    assert loop.calls == []


async def test_a_deadline_ends_a_task_but_not_early(loop: Loop) -> None:
    release = asyncio.Event()

    async def wait(_work: RunTool) -> str:
        await release.wait()
        return "late"

    loop.run_call = wait
    await loop.all()
    task = await loop.client.submit(
        "helper", "call hang", session="s1", limits=LimitsPatch(deadline_s=1.2)
    )
    done = await task.result(40)
    release.set()
    assert done.error
    assert done.error.code == "deadline_exceeded"
    facts = {fact.kind: fact for fact in await task.facts()}
    assert facts["timer"].time >= facts["accepted"].time + 1.2


async def test_cancelling_a_running_task_frees_the_engine(loop: Loop) -> None:
    loop.seconds_per_token = 0.05
    await loop.all()
    task = await loop.client.submit("helper", "say " + "x" * 2000, session="s1")
    await until(lambda: has(loop, "s1", "accepted"))
    async for event in task.events():
        if event.kind == "delta":  # it speaks
            break
    assert await task.cancel(by="test") > 0
    assert (await task.result(40)).status == "cancelled"
    after = await loop.client.submit("helper", "say hi", session="s1")
    assert (await after.result(40)).output == "hi"
    with pytest.raises(Permanent) as refused:
        await task.cancel()
    assert refused.value.code == "task_ended"


async def test_cancelling_a_queued_task_leaves_the_running_one_alone(loop: Loop) -> None:
    release = asyncio.Event()

    async def wait(_work: RunTool) -> str:
        await release.wait()
        return "late"

    loop.run_call = wait
    await loop.all()
    first = await loop.client.submit("helper", "call shout", session="s1")
    second = await loop.client.submit("helper", "say x", session="s1")
    await until(lambda: loop.calls)
    await second.cancel()
    assert (await second.result(40)).status == "cancelled"
    release.set()
    assert (await first.result(40)).output == "got late"


async def test_a_session_with_a_malformed_fact_goes_on(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "say a", session="s1")
    await task.result(40)
    subject = (await RunLog(bus).read(SessionRef("default", "s1")))[-1].headers["Nats-Subject"]
    await bus.publish(subject.rsplit(".", 2)[0] + ".inferred", b"no json")
    again = await loop.client.submit("helper", "say b", session="s1")
    assert (await again.result(40)).output == "b"


async def test_tools_done_once(loop: Loop) -> None:
    await loop.all()
    task = await loop.client.submit("helper", "steps 6", session="s1")
    assert (await task.result(40)).output.startswith("got")
    results = [f.fact.step for f in await task.facts() if isinstance(f.fact, ToolDone)]
    assert results == [1, 3, 5, 7, 9, 11] == [call.step for call in loop.calls]


async def test_no_task_meets_half_a_catalog_while_agents_change(loop: Loop, bus: Bus) -> None:
    await loop.all()
    catalog, over = KeyValue(bus, AGENTS), asyncio.Event()

    async def change() -> None:
        while not over.is_set():
            await catalog.put("_shared.other", encode(AgentSpec(name="other")))

    changing = asyncio.create_task(change())
    tasks = [await loop.client.submit("helper", "say x", session=f"s{n}") for n in range(30)]
    results = await asyncio.gather(*(task.result(30) for task in tasks))
    over.set()
    await changing
    assert {done.status for done in results} == {"completed"}


async def test_an_agent_can_be_added_while_the_system_runs(loop: Loop, bus: Bus) -> None:
    await loop.all()
    await KeyValue(bus, AGENTS).put("default.added", encode(AgentSpec(name="added")))

    async def works() -> bool:
        task = await loop.client.submit("added", "say x", session="s1")
        return (await task.result(40)).status == "completed"

    await until(works)
    elsewhere = await loop.client.for_tenant("other").submit("added", "say x", session="s1")
    refused = (await elsewhere.result(40)).error
    assert refused is not None
    assert refused.code == "unknown_agent"
