"""What metrics and traces cost the loop: the same system with neither, with one, with both.

Rounds of the three alternate on running processes, and each is compared with the silent one beside
it, so that neither the machine's speed nor its drift is in the ratios. CPU time is that of our
processes and of the broker; a collector and a Prometheus would be somebody else's. The time until
the last trace of a round was told belongs to the round.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from infra.local.scraping import free_ports
from shared.bus.connect import Bus
from shared.client import Millrace
from shared.subjects import TRACES
from tests.bench.counting import OFF, ON
from tests.bench.loop import AGENT, STEPS, Waiter, load, ready
from tests.bench.system import System, cpu_seconds, system
from tests.fakes.collector import collector

ROUNDS, SECONDS, FLIGHT = 8, 4.0, 16
SCRAPE_EVERY = 5.0
MODULES = ("services.sessions", "services.router", "services.tools", "tests.bench.worker")
SILENT, METRICS, BOTH = "neither", "metrics", "metrics and traces"
_WARM = 30


@dataclass(frozen=True)
class Round:
    """Milliseconds a task, steps a second, CPU milliseconds a step: in all, and of the loop."""

    task_ms: float
    steps_per_s: float
    cpu_ms: float
    loop_ms: float


@dataclass
class Watched:
    """A running system: its processes, where they are scraped, and what gives it a task.

    `pids` end with the broker; `tellers` are those among them that tell traces.
    """

    bus: Bus
    pids: list[int]
    ports: list[int]
    task: Callable[[], Awaitable[None]]
    tellers: list[int]

    def switch(self, *, on: bool) -> None:
        """Count, or do not."""
        for pid in self.pids[:-1]:
            os.kill(pid, ON if on else OFF)

    async def told(self) -> None:
        """Wait until every task that has ended was told of."""
        while self.tellers:
            info = await self.bus.api(f"CONSUMER.INFO.{TRACES.stream}.{TRACES.name}")
            if not info["num_pending"] + info["num_ack_pending"]:
                return
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(running: System, extra: dict[str, str]) -> AsyncIterator[Watched]:
    """Start the services on a broker; with somewhere to send traces, also who tells them."""
    modules = [*MODULES, *(["services.tracing"] if extra else [])]
    ports = free_ports("127.0.0.1", len(modules))
    waiter = Waiter(3)
    await running.bus.nc.subscribe("run.*.*.*.done.*", cb=waiter.receive)
    client = Millrace(running.bus)

    async def task() -> None:
        session, ended = waiter.next("w")
        await client.submit("summer", f"steps {STEPS // 2}", session=session)
        await ended

    async with AsyncExitStack() as stack:
        pids: list[int] = []
        for module, port in zip(modules, ports, strict=True):
            argv = ["tests.bench.counting", module]
            own = {"MILLRACE_METRICS_PORT": str(port), **extra}
            started = stack.enter_context(running.processes([argv], own))
            pids.append(started[0])
        names = ("sessions", "router", "tools", "inference", *(["tracing"] if extra else []))
        await ready(running.bus, names)
        tellers = pids[len(MODULES) :]
        yield Watched(running.bus, [*pids, running.server], ports, task, tellers)


@asynccontextmanager
async def scraped(ports: Sequence[int]) -> AsyncIterator[None]:
    """As a Prometheus would, for as long as this lasts."""

    async def scrape() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                for port in ports:
                    (await client.get(f"http://127.0.0.1:{port}/metrics")).raise_for_status()
                await asyncio.sleep(SCRAPE_EVERY)

    scraping = asyncio.create_task(scrape())
    try:
        yield
    finally:
        scraping.cancel()
        with suppress(asyncio.CancelledError):
            await scraping


async def measured(one: Watched, *, on: bool) -> Round:
    """With counting, somebody scrapes."""
    one.switch(on=on)
    async with AsyncExitStack() as stack:
        if on:
            await stack.enter_async_context(scraped(one.ports))
        before, teller = cpu_seconds(one.pids), cpu_seconds(one.tellers)
        found = await load(one.task, one.pids, FLIGHT, SECONDS)
        steps = (cpu_seconds(one.pids) - before) * 1e3 / found.cpu_ms
        await one.told()
        cpu = (cpu_seconds(one.pids) - before) * 1e3 / steps
        told = (cpu_seconds(one.tellers) - teller) * 1e3 / steps
    return Round(found.task_ms, found.steps_per_s, cpu, cpu - told)


async def rounds(plain: Watched, traced: Watched) -> dict[str, list[Round]]:
    """All of them; each begins with another of the three."""
    ways: list[tuple[str, Watched, bool]] = [
        (SILENT, plain, False),
        (METRICS, plain, True),
        (BOTH, traced, True),
    ]
    for one in (plain, traced):
        for _ in range(_WARM):
            await asyncio.wait_for(one.task(), 60)
    found: dict[str, list[Round]] = {name: [] for name, _, _ in ways}
    for number in range(ROUNDS):
        turned = [*ways[number % 3 :], *ways[: number % 3]]
        for name, one, on in turned:
            found[name].append(await measured(one, on=on))
    return found


def show(found: dict[str, list[Round]]) -> None:
    """Medians, and the medians of the ratios of each round, with the lowest and the highest."""
    table = Table(title=f"{ROUNDS} rounds of {SECONDS:g} s each, {FLIGHT} tasks in flight")
    table.add_column("")
    for name in found:
        table.add_column(name, justify="right")
    for title, read in FIGURES.items():
        bases = [read(one) for one in found[SILENT]]
        cells = []
        for figures in found.values():
            values = [read(one) for one in figures]
            ratios = sorted(value / base for value, base in zip(values, bases, strict=True))
            spread = f"{median(ratios):.3f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            cells.append(f"{median(values):.2f}   {spread}")
        table.add_row(title, *cells)
    Console(width=130).print(table)


FIGURES: dict[str, Callable[[Round], float]] = {
    "ms a task": lambda one: one.task_ms,
    "steps/s": lambda one: one.steps_per_s,
    "CPU ms a step": lambda one: one.cpu_ms,
    "  without tracing's own": lambda one: one.loop_ms,
}


async def bench() -> None:
    """Two systems beside each other, of which one tells traces; one works at a time."""
    with collector() as told:
        async with (
            system({"summer": AGENT}) as first,
            system({"summer": AGENT}) as second,
            watched(first, {}) as plain,
            watched(second, told.environment()) as traced,
        ):
            found = await rounds(plain, traced)
    show(found)
    Console().print(f"{len(told.spans)} spans were told")
