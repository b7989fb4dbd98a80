"""Step 1,000 costs what step 10 costs: counted in requests and bytes on the broker, never in time.

The sums run over the connections of all services. A prompt that was stored or sent again with
every step would make the later steps larger by the length of the conversation before them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.sessions.handlers import Bounds
from shared.bus.connect import Bus
from shared.contracts.work import RunTool
from shared.subjects import RUNS
from tests.bench.worker import instant_model
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TASK, STEPS = "steps 4", 9
"""Five model calls and four tool calls a task."""
SERVICES = ("sessions", "router", "tools", "w1")
STORED = 900
"""Bytes of the log a step at most; a single prompt of the old session has more than 50,000."""
LIMIT = 1.3
"""Ids and counters grow by a digit or two, and once in 200 facts there is a snapshot."""

_FREE = {"reads": 0.1}
"""Per step: a read more or less among hundreds of steps is no growth."""

WINDOW = 3
"""Tasks that are looked at together."""
BY_TIME = ("messages", "sent", "received")
"""What also grows by the second (heartbeats, requests that ran out): its quietest window counts."""


@dataclass(frozen=True)
class Cost:
    """Per step: reads of the log, messages received, bytes both ways, bytes and facts stored."""

    reads: float
    messages: float
    sent: float
    received: float
    stored: float
    facts: float


def overall(windows: list[Cost], quietest: tuple[str, ...] = ()) -> Cost:
    """The mean; the least of what is named."""
    found = {one.name: [getattr(cost, one.name) for cost in windows] for one in fields(Cost)}
    return Cost(
        **{
            name: min(each) if name in quietest else sum(each) / len(each)
            for name, each in found.items()
        }
    )


class Meter:
    """Counts what the services ask of the broker; started when they are."""

    def __init__(self, loop: Loop, bus: Bus, services: tuple[str, ...] = SERVICES) -> None:
        self._loop, self._bus = loop, bus
        self._buses = [loop.parts[name].bus for name in services]
        self._reads = 0
        for one in self._buses:
            self._count(one)

    def _count(self, bus: Bus) -> None:
        ask = bus.ask_many

        async def counted(subject: str, body: bytes, patience: float = 5.0) -> list[Msg]:
            self._reads += 1
            return await ask(subject, body, patience)

        bus.ask_many = counted

    async def _reading(self) -> list[int]:
        stats = [one.nc.stats for one in self._buses]
        state = (await self._bus.api(f"STREAM.INFO.{RUNS}"))["state"]
        sums = [sum(one[what] for one in stats) for what in ("in_msgs", "out_bytes", "in_bytes")]
        return [self._reads, *sums, state["bytes"], state["last_seq"]]

    async def cost(self, session: str, tasks: int) -> Cost:
        sizes = [min(WINDOW, tasks - done) for done in range(0, tasks, WINDOW)]
        return overall([await self._window(session, size) for size in sizes], BY_TIME)

    async def _window(self, session: str, tasks: int) -> Cost:
        before = await self._reading()
        await run(self._loop, session, tasks)
        after = await self._reading()
        return Cost(*((b - a) / (tasks * STEPS) for a, b in zip(before, after, strict=True)))


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        (tmp_path / "summer.yaml").write_text("tools: [calculator]")
        loop.model = lambda worker: instant_model("nano", worker)
        loop.run_call = sum_up
        yield loop


async def sum_up(_work: RunTool) -> str:
    return "2"


async def run(loop: Loop, session: str, tasks: int) -> None:
    for _ in range(tasks):
        task = await loop.client.submit("summer", TASK, session=session)
        assert (await task.result(40)).status == "completed"


def assert_no_dearer(young: Cost, old: Cost) -> None:
    for what in fields(Cost):
        then, now = getattr(young, what.name), getattr(old, what.name)
        limit = max(LIMIT * then, _FREE.get(what.name, 0.0))
        assert now <= limit, f"{what.name}: {then:.2f} -> {now:.2f}"


async def test_step_1000_costs_what_step_10_costs(loop: Loop, bus: Bus) -> None:
    await loop.all()
    meter = Meter(loop, bus)
    await run(loop, "warm-up", 3)
    young = await meter.cost("s1", 6)
    await run(loop, "s1", 1000 // STEPS)
    old = await meter.cost("s1", 24)  # long enough to hold a snapshot
    assert_no_dearer(young, old)
    assert old.reads < 0.1, "nobody reads the log for a step"
    assert old.stored < STORED


async def test_a_session_that_is_evicted_after_each_task_costs_no_more_when_it_is_old(
    loop: Loop, bus: Bus
) -> None:
    """Cold loads, all of them: from the snapshot and the facts since, however long the log is."""
    loop.bounds = Bounds(keep=1, snapshot_every=40)
    await loop.all()
    meter = Meter(loop, bus, ("sessions",))

    async def cold(tasks: int) -> Cost:
        costs = []
        for n in range(tasks):
            await run(loop, f"other{n % 2}", 1)  # no room is left for s1
            costs.append(await meter.cost("s1", 1))
        return overall(costs)

    await run(loop, "s1", 20)
    young = await cold(8)
    await run(loop, "s1", 40)
    old = await cold(8)
    assert_no_dearer(young, old)
    assert 1 <= old.reads * STEPS <= 3, "each of them was a cold load"
