"""`make bench`: what Millrace itself costs per step, against a floor measured in the same run.

A task has nine durable steps (five model calls, four tool calls) of an instant model and a real
calculator; every service is a process, every fact is fsynced. The floor passes the same messages
along with nothing in them. Read the ratios: the machine's own speed cancels out of them.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from nats.aio.msg import Msg
from rich.console import Console
from rich.table import Table

from infra.local.settings import inherited_environment
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.client import Millrace
from shared.clock import monotonic
from shared.contracts.base import SessionRef
from shared.settings import Address
from shared.telemetry import configure
from shared.timeline import overheads, timeline
from tests.bench.floor import FACTS, FILTERS, ROLES, WORK, submit
from tests.integration.broker_process import NatsServer

STEPS = 9
ROOT = Path(__file__).resolve().parents[2]
MODELS = """
models: {instant: {engine: openvino, path: ".", context: 16384, concurrency: 256}}
routes: {default: [instant]}
"""
AGENT = "tools: [calculator]\nlimits: {max_steps: 100}\n"
ROUNDS = ((1, 4.0), (16, 4.0), (64, 5.0))
"""Tasks in flight, and for how many seconds."""


@dataclass(frozen=True)
class Figures:
    """Of one round: milliseconds a task (median), steps a second, CPU milliseconds a step."""

    task_ms: float
    steps_per_s: float
    cpu_ms: float


@contextmanager
def processes(
    modules: list[list[str]], environment: dict[str, str], log: Path
) -> Iterator[list[int]]:
    """Run `python -m ...` for each, and end them by pid."""
    with log.open("ab") as out:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", *argv], env=environment, stdout=out, stderr=out, cwd=ROOT
            )
            for argv in modules
        ]
    try:
        yield [one.pid for one in started]
    finally:
        for one in started:
            one.terminate()
        for one in started:
            one.wait(20)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time so far (Linux: /proc/PID/stat, fields 14 and 15)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


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


async def floor(
    bus: Bus, environment: dict[str, str], server: int, log: Path
) -> dict[int, Figures]:
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

    with processes([["tests.bench.floor", role] for role in ROLES], environment, log) as pids:
        await asyncio.sleep(3)
        return await rounds(task, [*pids, server])


async def product(
    bus: Bus, environment: dict[str, str], server: int, log: Path
) -> tuple[dict[int, Figures], list[float]]:
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
    with processes(modules, environment, log) as pids:
        await ready(bus)
        figures = await rounds(task, [*pids, server])
        return figures, await _overheads(bus, client)


async def ready(bus: Bus) -> None:
    for name in ("sessions", "router", "tools", "inference"):
        for _ in range(100):
            try:
                await bus.request(f"health.{name}", b"", 0.5)
                break
            except Exception:  # noqa: BLE001  # whatever it is, it is not ready yet
                await asyncio.sleep(0.2)
    await asyncio.sleep(1.5)  # the worker's first report


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


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MODELS)
        (folder / "agents").mkdir()
        (folder / "agents" / "summer.yaml").write_text(AGENT)
        server = NatsServer(folder)
        server.start()
        environment = {
            **inherited_environment(), "PYTHONPATH": str(ROOT), "MILLRACE_NATS_URL": server.url,
            "MILLRACE_NATS_TOKEN": server.token, "MILLRACE_MODELS": str(folder / "models.yaml"),
            "MILLRACE_AGENTS": str(folder / "agents"), "MILLRACE_MODEL": "instant",
            "MILLRACE_DATA": str(folder), "MILLRACE_LOG_LEVEL": "warning",
        }  # fmt: skip
        log = folder / "bench.log"
        address = Address(server.url, server.token, None)
        try:
            async with open_bus(address, "bench", configure("bench", "error")) as bus:
                await topology.ensure(bus)
                base = await floor(bus, environment, server.pid, log)
                ours, extra = await product(bus, environment, server.pid, log)
            show(base, ours, extra)
        except BaseException:
            sys.stderr.write(log.read_text()[-4000:])
            raise
        finally:
            server.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["viewers"]:
        from tests.bench import viewers

        idle, crowd = (*map(int, sys.argv[2:4]), 5000, 1000)[:2]
        uvloop.run(viewers.main((idle, crowd)))
    else:
        uvloop.run(main())
