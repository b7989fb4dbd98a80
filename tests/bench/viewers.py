"""`make bench ARGS=viewers`: what a viewer costs, and whether thousands of them see everything.

One ingress process, one broker, real sessions, router and tools, an instant model. Five thousand
idle viewers of sessions of their own, then a task in one of those sessions; then a thousand viewers
of one session.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections.abc import Iterable
from pathlib import Path

import httpx

from infra.local.broker import free_port
from shared.bus.connect import Bus
from shared.client import Millrace
from shared.clock import monotonic
from tests.bench.loop import AGENT, ready
from tests.bench.system import cpu_seconds, system
from tests.integration.waiting import until

STEPS = 4
AT_ONCE = 200


class Viewer(asyncio.Protocol):
    """A socket that asks for the events of a session and keeps what comes."""

    def __init__(self, session: str, port: int) -> None:
        self.session = session
        self._request = (
            f"GET /v1/sessions/{session}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Accept: text/event-stream\r\n\r\n"
        ).encode()
        self.seen = bytearray()
        self.open = asyncio.get_running_loop().create_future()
        self.over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        if not self.open.done():
            self.open.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True

    def ids(self) -> list[bytes]:
        """The ids of the events that it got, in order."""
        return [line[4:] for line in self.seen.split(b"\n") if line.startswith(b"id: ")]

    def ended(self) -> bool:
        return b"event: done" in self.seen


async def opened(sessions: Iterable[str], port: int) -> list[Viewer]:
    """A viewer for each, a few at once; all of them have been answered."""
    loop, found = asyncio.get_running_loop(), []
    waiting = list(sessions)
    for first in range(0, len(waiting), AT_ONCE):
        some = waiting[first : first + AT_ONCE]
        made = await asyncio.gather(
            *(loop.create_connection(lambda s=s: Viewer(s, port), "127.0.0.1", port) for s in some)
        )
        viewers = [viewer for _, viewer in made]
        await asyncio.wait_for(asyncio.gather(*(viewer.open for viewer in viewers)), 60)
        assert all(viewer.seen.startswith(b"HTTP/1.1 200") for viewer in viewers)
        found += viewers
    return found


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def run_task(client: Millrace, session: str, viewers: list[Viewer]) -> float:
    """Submit one and wait until all of these have seen its end; the seconds that took."""
    began = monotonic()
    await client.submit("summer", f"steps {STEPS}", session=session)
    await until(lambda: all(viewer.ended() for viewer in viewers))
    return monotonic() - began


async def idle(client: Millrace, pid: int, port: int, count: int) -> None:
    """So many viewers of which one session's see something."""
    await asyncio.sleep(1)
    before = resident(pid)
    began = monotonic()
    viewers = await opened((f"idle{n}" for n in range(count)), port)
    took = monotonic() - began
    await asyncio.sleep(2)
    after = resident(pid)
    print(  # noqa: T201
        f"{count} idle viewers: {before / 2**20:.1f} -> {after / 2**20:.1f} MiB resident,"
        f" {(after - before) / count / 1024:.1f} kB a viewer; opened in {took:.1f} s"
    )
    cpu = cpu_seconds([pid])
    await asyncio.sleep(15)
    print(f"their heartbeats: {(cpu_seconds([pid]) - cpu) / 15:.1%} of a core")  # noqa: T201
    watched = [viewer for viewer in viewers if viewer.session == "idle7"]
    others = [viewer for viewer in viewers if viewer.session != "idle7"]
    took = await run_task(client, "idle7", watched)
    assert all(b"event:" not in viewer.seen for viewer in others)
    assert not any(viewer.over for viewer in viewers)
    print(f"a task in one of their sessions: seen to its end in {took * 1e3:.0f} ms")  # noqa: T201
    for viewer in viewers:
        viewer.transport.close()
    await asyncio.sleep(1)
    print(f"all gone: {resident(pid) / 2**20:.1f} MiB")  # noqa: T201


async def crowd(client: Millrace, pid: int, port: int, count: int) -> None:
    """So many viewers of one session; all see the same."""
    viewers = await opened(["crowd"] * count, port)
    cpu = cpu_seconds([pid])
    took = await run_task(client, "crowd", viewers)
    cpu = cpu_seconds([pid]) - cpu
    first = viewers[0].ids()
    assert all(viewer.ids() == first for viewer in viewers)
    events = len(first) * count
    print(  # noqa: T201
        f"{count} viewers of one session: {len(first)} events each, the same for all, in"
        f" {took * 1e3:.0f} ms; {cpu / events * 1e6:.0f} CPU microseconds an event and viewer"
    )
    for viewer in viewers:
        viewer.transport.close()


async def measure(bus: Bus, pid: int, port: int, counts: tuple[int, int]) -> None:
    client = Millrace(bus)
    async with httpx.AsyncClient(trust_env=False) as http:
        for _ in range(200):
            try:
                await http.get(f"http://127.0.0.1:{port}/healthz")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    for viewer in await opened(["warm"] * 20, port):  # what is imported and made only once
        viewer.transport.close()
    gc.collect()
    await idle(client, pid, port, counts[0])
    await crowd(client, pid, port, counts[1])


async def bench(counts: tuple[int, int] = (5000, 1000)) -> None:
    """Measure and print."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    port = free_port()
    names = ("services.ingress", "services.sessions", "services.router", "services.tools")
    modules = [[module] for module in (*names, "tests.bench.worker")]
    async with system({"summer": AGENT}) as running:
        with running.processes(modules, {"MILLRACE_HTTP_PORT": str(port)}) as pids:
            await ready(running.bus)
            await measure(running.bus, pids[0], port, counts)
