"""What the durable loop costs per step, against a floor measured in the same run.

A task has nine durable steps (five model calls, four tool calls) of an instant model and a real
calculator; every service is a process, every fact is fsynced. The floor passes the same messages
along with nothing in them. Read the ratios: the machine's own speed cancels out of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

from nats.aio.msg import Msg
from rich.console import Console
from rich.table import Table

from shared.bus import topology
from shared.bus.connect import Bus
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.base import SessionRef
from shared.timeline import overheads, timeline
from tests.bench.floor import FACTS, FILTERS, ROLES, WORK, submit
from tests.bench.system import System, cpu_seconds, system

STEPS = 9
AGENT = "tools: [calculator]\nlimits: {max_steps: 100}\n"
ROUNDS = ((1, 4.0), (16, 4.0), (64, 5.0))
"""Tasks in flight, and for how many seconds."""


@dataclass(frozen=True)
class Figures:
    """Of one round: milliseconds a task (median), steps a second, CPU milliseconds a step."""

    task_ms: float
    steps_per_s: float
    cpu_ms: float


async def load(
    task: Callable[[], Awaitable[None]], pids: list[int], flight: int, seconds: float
) -> Figures:
    """Keep so many tasks in flight for so long."""
    took: list[float] = []
    end = monotonic() + seconds

    async def again() -> None:
        while monotonic() < end:
            start = monotonic()
            await asyncio.wait_for(task(), 60)
            took.append(monotonic() - start)

    start, before = monotonic(), cpu_seconds(pids)
    await asyncio.gather(*(again() for _ in range(flight)))
    steps = len(took) * STEPS
    cpu = cpu_seconds(pids) - before
    return Figures(median(took) * 1e3, steps / (monotonic() - start), cpu * 1e3 / steps)


class Waiter:
    """Waits for the ends of tasks on a subject; the session is token `place` of it."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._count = 0

    async def receive(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject.split(".")[self._place], None)
        if future is not None:
            future.set_result(None)

    def next(self, prefix: str) -> tuple[str, asyncio.Future[None]]:
        self._count += 1
        session = f"{prefix}{self._count}"
        future = asyncio.get_running_loop().create_future()
        self._waiting[session] = future
        return session, future


async def rounds(task: Callable[[], Awaitable[None]], pids: list[int]) -> dict[int, Figures]:
    for _ in range(20):  # warm up
        await asyncio.wait_for(task(), 60)
    return {flight: await load(task, pids, flight, seconds) for flight, seconds in ROUNDS}


async def floor(system: System) -> dict[int, Figures]:
    bus = system.bus
    for stream in (FACTS, WORK):
        await topology.ensure_stream(bus, topology.stream_config(stream))
    for consumer in FILTERS.values():
        await topology.ensure_consumer(bus, consumer)
    waiter = Waiter(1)
    await bus.nc.subscribe("floor.*.done", cb=waiter.receive)

    async def task() -> None:
        session, ended = waiter.next("f")
        await submit(bus, session, STEPS)
        await ended

    with system.processes([["tests.bench.floor", role] for role in ROLES]) as pids:
        await asyncio.sleep(3)
        return await rounds(task, pids)


async def product(system: System) -> tuple[dict[int, Figures], list[float]]:
    bus = system.bus
    waiter = Waiter(3)
    await bus.nc.subscribe("run.*.*.*.done.*", cb=waiter.receive)
    client = Millrace(bus)

    async def task() -> None:
        session, ended = waiter.next("b")
        await client.submit("summer", f"steps {STEPS // 2}", session=session)
        await ended

    modules = [
        ["services.sessions"],
        ["services.router"],
        ["services.tools"],
        ["tests.bench.worker"],
    ]
    with system.processes(modules) as pids:
        await ready(bus)
        figures = await rounds(task, pids)
        return figures, await _overheads(bus, client)


async def ready(
    bus: Bus, names: Sequence[str] = ("sessions", "router", "tools", "inference")
) -> None:
    """Wait for services, and for the worker's first report."""
    for name in names:
        for _ in range(100):
            try:
                await bus.request(f"health.{name}", b"", 0.5)
                break
            except Exception:  # noqa: BLE001  # whatever it is, it is not ready yet
                await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)


async def _overheads(bus: Bus, client: Millrace) -> list[float]:
    """Of tasks that ran alone: what was neither model nor tool."""
    found: list[float] = []
    for number in range(40):
        session = f"alone{number}"
        task = await client.submit("summer", f"steps {STEPS // 2}", session=session)
        await task.result(timeout=30)
        facts = await client.log.read(SessionRef(client.tenant, session))
        line = timeline(facts, task.id)
        found += overheads(line) if line else []
    return found


def show(floor: dict[int, Figures], ours: dict[int, Figures], extra: list[float]) -> None:
    table = Table(title="nine durable steps a task, every fact fsynced")
    for column in (
        "in flight",
        "ms a task",
        "floor",
        "ratio",
        "steps/s",
        "floor",
        "ratio",
        "CPU ms a step",
        "floor",
    ):
        table.add_column(column, justify="right")
    for flight, mine in ours.items():
        base = floor[flight]
        table.add_row(
            str(flight),
            f"{mine.task_ms:.1f}", f"{base.task_ms:.1f}", f"{mine.task_ms / base.task_ms:.2f}",
            f"{mine.steps_per_s:.0f}", f"{base.steps_per_s:.0f}",
            f"{mine.steps_per_s / base.steps_per_s:.2f}",
            f"{mine.cpu_ms:.2f}", f"{base.cpu_ms:.2f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(f"a step alone, without model and tool: p50 {median(extra):.2f} ms")


async def bench() -> None:
    """Run both and print them beside each other."""
    async with system({"summer": AGENT}) as running:
        base = await floor(running)
        ours, extra = await product(running)
    show(base, ours, extra)
