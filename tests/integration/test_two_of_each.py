"""Two instances of every service in the loop, and one of each dies in the middle of tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.kv import KeyValue
from shared.client import Task
from shared.contracts.base import encode
from shared.contracts.facts import Done, Inferred, ToolDone
from shared.contracts.workers import WorkerState
from shared.subjects import WORK, WORKERS, infer_consumer
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import CONTEXT, LOG, Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def assert_ended_once(tasks: list[Task]) -> None:
    for task in tasks:
        facts = [stored.fact for stored in await task.facts()]
        assert sum(isinstance(fact, Done) for fact in facts) == 1
        steps = [fact.step for fact in facts if isinstance(fact, Inferred | ToolDone)]
        assert sorted(set(steps)) == sorted(steps)


@pytest.mark.parametrize("dies", ["router", "tools", "w1", "sessions"])
@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_one_of_two_ends_in_the_middle(loop: Loop, dies: str, how: str) -> None:
    twins = ("tools", "tools2", "sessions", "sessions2", "router", "router2", "w1", "w2")
    await loop.start(*twins)
    tasks = [await loop.client.submit("helper", "steps 6", session=f"s{n}") for n in range(16)]
    await until(lambda: len(loop.calls) > 16)
    await getattr(loop, how)(dies)
    assert {(await task.result(40)).status for task in tasks} == {"completed"}
    await assert_ended_once(tasks)


async def test_two_routers_rescue_the_lane_of_a_lost_worker_together(
    loop: Loop, nats_server: NatsServer
) -> None:
    await loop.start("tools", "sessions", "router", "router2")
    async with open_bus(nats_server.address(), "ghost", LOG) as ghost:
        lane = infer_consumer("nano", "ghost")
        await topology.ensure_consumer(ghost, lane)
        state = WorkerState(worker="ghost", model="nano", engine="x", slots=20, context=CONTEXT)
        await KeyValue(ghost, WORKERS).put("ghost", encode(state))
        tasks = [await loop.client.submit("helper", "tools 2", session=f"s{n}") for n in range(20)]
        await until(lambda: waiting(ghost, lane.name, 20))
        await ghost.nc.close()
    await loop.start("w1")
    assert {(await task.result(30)).status for task in tasks} == {"completed"}
    await assert_ended_once(tasks)


async def waiting(bus: Bus, consumer: str, count: int) -> bool:
    return (await bus.api(f"CONSUMER.INFO.{WORK}.{consumer}"))["num_pending"] == count
