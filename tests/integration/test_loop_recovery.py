"""Whatever crashes in the middle of a task: it ends, and it ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.sessions.adapters.partition import Checkpoint, checkpoint_key
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.kv import KeyValue
from shared.client import Task
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.facts import Done, Inferred, ToolDone
from shared.contracts.work import RunTool
from shared.contracts.workers import WorkerState
from shared.subjects import CHECKPOINTS, WORKERS, infer_consumer, partition
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import CONTEXT, LOG, Loop, running_loop, shout
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def assert_ended_once(loop: Loop, *tasks: Task) -> None:
    """Each task has one `done`, and no step of it has two results."""
    for task in tasks:
        facts = [fact.fact for fact in await loop.client.session(task.session).history()]
        own = [fact for fact in facts if getattr(fact, "task", "") == task.id]
        assert sum(isinstance(fact, Done) for fact in own) == 1
        steps = [fact.step for fact in own if isinstance(fact, Inferred | ToolDone)]
        assert sorted(set(steps)) == sorted(steps)


class Gate:
    """A tool that waits at its first call until it is let go."""

    def __init__(self) -> None:
        self.entered, self.release = asyncio.Event(), asyncio.Event()

    async def __call__(self, work: RunTool) -> str:
        self.entered.set()
        await self.release.wait()
        return await shout(work)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_sessions_restart_in_the_middle(loop: Loop, how: str) -> None:
    gate = loop.run_call = Gate()
    await loop.all()
    task = await loop.client.submit("helper", "steps 3", session="s1")
    await gate.entered.wait()
    await getattr(loop, how)("sessions")
    gate.release.set()
    queued = await loop.client.submit("helper", "say next", session="s1")
    await loop.start("sessions")
    assert (await task.result(40)).output.startswith("got")
    assert (await queued.result(40)).output == "next"
    await assert_ended_once(loop, task, queued)


@pytest.mark.parametrize("part", ["router", "tools", "w1"])
async def test_a_part_that_is_away_only_delays(loop: Loop, part: str) -> None:
    await loop.all()
    await loop.crash(part)
    task = await loop.client.submit("helper", "steps 2", session="s1")
    await until(lambda: accepted(loop, "s1"))
    await loop.start(part)
    assert (await task.result(30)).status == "completed"
    await assert_ended_once(loop, task)


async def accepted(loop: Loop, session: str) -> bool:
    return "accepted" in [f.kind for f in await loop.client.session(session).history()]


async def test_the_server_is_killed_in_the_middle_of_tasks(
    loop: Loop, nats_server: NatsServer
) -> None:
    gate = loop.run_call = Gate()
    await loop.all()
    tasks = [await loop.client.submit("helper", "steps 4", session=f"s{n}") for n in range(8)]
    await gate.entered.wait()
    await asyncio.to_thread(nats_server.restart)
    gate.release.set()
    results = [await task.result(40) for task in tasks]
    assert {done.output for done in results} == {"got shout0 shout1 shout2 shout3"}
    await assert_ended_once(loop, *tasks)


async def test_the_server_is_killed_again_and_again(loop: Loop, nats_server: NatsServer) -> None:
    await loop.all()
    tasks = [await loop.client.submit("helper", "steps 6", session=f"s{n}") for n in range(20)]
    for n in range(2):
        await until(lambda n=n: len(loop.calls) > 20 * (n + 1))
        await asyncio.to_thread(nats_server.restart)
    results = [await task.result(40) for task in tasks]
    assert {done.status for done in results} == {"completed"}
    await assert_ended_once(loop, *tasks)


async def test_work_that_was_lost_while_nobody_looked_is_driven_again(
    loop: Loop, nats_server: NatsServer
) -> None:
    await loop.start("sessions")
    task = await loop.client.submit("helper", "tools 2", session="s1")
    await until(lambda: accepted(loop, "s1"))
    await loop.stop("sessions")
    await asyncio.to_thread(nats_server.restart)  # WORK is in memory: the step is lost
    await loop.start("tools", "sessions", "router", "w1")
    assert (await task.result(40)).status == "completed"
    await assert_ended_once(loop, task)


async def test_jobs_in_the_lane_of_a_worker_that_vanished_are_rescued(
    loop: Loop, nats_server: NatsServer
) -> None:
    await loop.start("tools", "sessions", "router")
    async with open_bus(nats_server.address(), "ghost", LOG) as ghost:
        lane = infer_consumer("nano", "ghost")
        await topology.ensure_consumer(ghost, lane)
        state = WorkerState(worker="ghost", model="nano", engine="x", slots=8, context=CONTEXT)
        await KeyValue(ghost, WORKERS).put("ghost", encode(state))
        tasks = [await loop.client.submit("helper", "tools 2", session=f"s{n}") for n in range(3)]
        pull = await ghost.nc.jetstream().pull_subscribe_bind(lane.name, stream="WORK")
        await until(lambda: waiting(ghost, lane.name, 3))
        await pull.fetch(1, timeout=20)  # one in its hands, the others in its lane
        await ghost.nc.close()
    await loop.start("w1")
    results = [await task.result(30) for task in tasks]
    assert {done.status for done in results} == {"completed"}
    await assert_ended_once(loop, *tasks)
    spoken = [f.fact for f in await tasks[0].facts() if isinstance(f.fact, Inferred)]
    assert spoken[0].attempt > lane.max_deliver  # later than any that the ghost can have made


async def waiting(bus: Bus, consumer: str, count: int) -> bool:
    return (await bus.api(f"CONSUMER.INFO.WORK.{consumer}"))["num_pending"] == count


async def test_a_worker_that_dies_while_it_speaks_is_replaced(loop: Loop) -> None:
    loop.seconds_per_token = 0.05
    await loop.start("tools", "sessions", "router", "w1")
    task = await loop.client.submit("helper", "say " + "x" * 40, session="s1")
    async for event in task.events():
        if event.kind == "delta":
            break
    loop.seconds_per_token = 0.0
    await loop.start("w2")
    await loop.crash("w1")
    done = await task.result(30)
    assert done.output == "x" * 40
    await assert_ended_once(loop, task)


async def test_a_fresh_instance_begins_at_the_checkpoint(loop: Loop, bus: Bus) -> None:
    gate = loop.run_call = Gate()
    await loop.all()
    for n in range(5):
        await (await loop.client.submit("helper", "say x", session=f"s{n}")).result(40)
    running = await loop.client.submit("helper", "call shout", session="open")
    await gate.entered.wait()
    await loop.stop("sessions")
    home = partition("default", "open")
    entry = await KeyValue(bus, CHECKPOINTS).get(checkpoint_key(home))
    assert entry is not None
    saved = decode(entry.value, Checkpoint)
    last = (await bus.api("STREAM.INFO.RUNS"))["state"]["last_seq"]
    assert saved == Checkpoint(seq=last, unfinished=(SessionRef("default", "open"),))
    await loop.start("sessions")
    config = (await bus.api(f"CONSUMER.INFO.RUNS.sessions-{home}"))["config"]
    assert config["opt_start_seq"] == last + 1
    gate.release.set()
    assert (await running.result(40)).output == "got shout0"
    await assert_ended_once(loop, running)
