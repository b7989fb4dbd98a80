"""What a stateless completion costs over HTTP: ingress, router, worker, an instant engine.

Beside it, from the same run and the same load generator: an HTTP server that answers a constant,
and the same chain of processes with nothing in them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
from rich.console import Console
from rich.table import Table

from infra.local.broker import free_port
from shared.bus import topology
from tests.bench.direct_floor import TOKENS
from tests.bench.floor import FACTS
from tests.bench.loop import ready
from tests.bench.system import ROOT, System, cpu_seconds, system

SECONDS = 4.0
ROUNDS = (("plain", 1), ("plain", 64), ("stream", 1), ("stream", 64))
"""What is asked for, and on how many connections."""
SYSTEMS = ("constant", "chain", "product")


@dataclass(frozen=True)
class Figures:
    """Of one round; `cpu_ms` a request of each process but the load generator's."""

    p50_ms: float
    p99_ms: float
    per_s: float
    events_per_s: float
    cpu_ms: tuple[float, ...]
    own_cpu_ms: float


def _body(kind: str) -> str:
    tokens = TOKENS if kind == "stream" else 1
    message = {"role": "user", "content": f"say {tokens}"}
    body = {"model": "default", "messages": [message], "stream": kind == "stream"}
    return orjson.dumps(body).decode()


async def load(port: int, kind: str, connections: int, seconds: float, pids: list[int]) -> Figures:
    """One round."""
    arguments = (str(port), str(connections), str(seconds), _body(kind))
    before = [cpu_seconds([pid]) for pid in pids]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.http_load", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    found = orjson.loads(output)
    if found["refused"] or not found["requests"]:
        raise RuntimeError(f"{kind} on {connections} connections: {found}")
    scale = 1e3 / found["requests"]
    used = [cpu_seconds([pid]) - was for pid, was in zip(pids, before, strict=True)]
    return Figures(
        found["p50_ms"], found["p99_ms"], found["per_s"], found["events_per_s"],
        tuple(one * scale for one in used), found["own_cpu_s"] * scale,
    )  # fmt: skip


async def _listening(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"nothing listens on {port}")


async def _quiet(pids: list[int]) -> None:
    """Wait until what the last round left behind (usage facts that are still to be stored) is done:
    the next one must not pay for it."""
    for _ in range(100):
        before = cpu_seconds(pids)
        await asyncio.sleep(0.3)
        if cpu_seconds(pids) - before < 0.03:
            return


@contextmanager
def _started(running: System, name: str, port: int) -> Iterator[list[int]]:
    modules = {
        "constant": [["tests.bench.direct_floor", "constant", str(port)]],
        "chain": [
            ["tests.bench.direct_floor", "front", str(port)],
            ["tests.bench.direct_floor", "router"],
            ["tests.bench.direct_floor", "worker"],
        ],
        "product": [
            ["services.ingress"],
            ["services.router"],
            ["tests.bench.worker", "--every-token"],
        ],
    }
    with running.processes(modules[name], {"MILLRACE_HTTP_PORT": str(port)}) as pids:
        yield pids


async def measure(running: System, name: str, seconds: float) -> dict[tuple[str, int], Figures]:
    """All rounds of one system."""
    port = free_port()
    with _started(running, name, port) as pids:
        await _listening(port)
        if name == "product":
            await ready(running.bus, ("router", "inference"))
        await asyncio.sleep(1)
        found: dict[tuple[str, int], Figures] = {}
        for row in (("plain", 4), ("stream", 4)):
            await load(port, *row, 0.5, pids)  # warm up
        for row in ROUNDS:
            await _quiet(pids)
            found[row] = await load(port, *row, seconds, pids)
        return found


def show(found: dict[str, dict[tuple[str, int], Figures]]) -> None:
    """A table of what was measured, and what the product adds to the bare server."""
    table = Table(
        title=f"a stateless completion; a stream has {TOKENS} tokens, a chunk for each",
        caption="processes: the HTTP server, the router, the worker, the broker",
    )
    columns = ("p50 ms", "p99 ms", "requests/s", "chunks/s", "CPU ms", "by process", "load's")
    for column in ("ask", "in flight", "system", *columns):
        table.add_column(column, justify="right" if column in columns else "left")
    for kind, connections in ROUNDS:
        for name in SYSTEMS:
            row = found[name][kind, connections]
            table.add_row(
                kind, str(connections), name, f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}",
                f"{row.per_s:.0f}", f"{row.events_per_s:.0f}" if kind == "stream" else "",
                f"{sum(row.cpu_ms):.2f}", " ".join(f"{one:.2f}" for one in row.cpu_ms),
                f"{row.own_cpu_ms:.2f}",
            )  # fmt: skip
        table.add_section()
    console = Console(width=130)
    console.print(table)
    alone = found["product"]["plain", 1].p50_ms - found["constant"]["plain", 1].p50_ms
    busy = found["product"]["plain", 64], found["chain"]["plain", 64]
    console.print(f"added to the bare server, alone: p50 {alone:.2f} ms")
    console.print(
        f"against the bare chain at 64: {busy[0].per_s / busy[1].per_s:.2f} of its requests/s, "
        f"{sum(busy[0].cpu_ms) / sum(busy[1].cpu_ms):.2f} times its CPU"
    )


async def bench(seconds: float = SECONDS) -> None:
    """Measure the floors and the product, and print them beside each other."""
    async with system({}) as running:
        await topology.ensure_stream(running.bus, topology.stream_config(FACTS))
        found = {name: await measure(running, name, seconds) for name in SYSTEMS}
    show(found)
