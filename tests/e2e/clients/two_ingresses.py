"""Two ingress processes before one loop with a scripted model that speaks slowly.

`say X` answers X, a character every few milliseconds; `call calculator` asks for a call that the
agent `careful` lets a person approve. Everything around the engine is the product's own.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.local.broker import free_port
from shared.bus import topology
from shared.bus.connect import open_bus
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer
from tests.integration.service_processes import WORKER, Processes, answering, processes

SECONDS_A_CHARACTER = "0.004"
CAREFUL = "tools: [calculator]\napprove: [calculator]\n"
PLAIN = "limits: {max_steps: 10}\n"
LOG = configure("test", "critical")


@dataclass
class Replica:
    """An ingress process."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Face:
    """The running system, as its clients see it."""

    first: Replica
    second: Replica
    running: Processes
    http: httpx.AsyncClient

    async def another(self, **settings: str) -> Replica:
        """One more ingress."""
        replica = _replica(self.running, **settings)
        await _listening(self.http, replica)
        return replica

    async def submit(self, session: str, said: str, agent: str = "plain") -> str:
        """Submit a task over HTTP; answers its id."""
        ask = {"agent": agent, "session": session, "input": said}
        answer = await self.http.post(f"{self.first.url}/v1/tasks", json=ask)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["task"])


def _replica(running: Processes, **settings: str) -> Replica:
    port = free_port()
    return Replica(port, running.start("ingress", http_port=str(port), **settings))


async def _listening(http: httpx.AsyncClient, *replicas: Replica) -> None:
    async with asyncio.timeout(30):
        for replica in replicas:
            while True:
                try:
                    if (await http.get(f"{replica.url}/v1/tasks/nobody")).status_code == 404:
                        break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
                else:
                    await asyncio.sleep(0.1)


@asynccontextmanager
async def two_ingresses(folder: Path) -> AsyncIterator[Face]:
    """Broker, sessions, router, tools, the worker and two ingresses; all are ended after."""
    with _broker(folder) as server, processes(server, folder) as running:
        (folder / "agents" / "careful.yaml").write_text(CAREFUL)
        (folder / "agents" / "plain.yaml").write_text(PLAIN)
        async with (
            open_bus(server.address(), "test", LOG) as bus,
            httpx.AsyncClient(trust_env=False, timeout=30) as http,
        ):
            await topology.ensure(bus)
            for name in ("sessions", "router", "tools"):
                running.start(name)
            running.start(WORKER, SECONDS_A_CHARACTER)
            replicas = (_replica(running), _replica(running))
            await answering(bus, "sessions", "router", "tools", "inference")
            await _listening(http, *replicas)
            yield Face(*replicas, running, http)


@contextmanager
def _broker(folder: Path) -> Iterator[NatsServer]:
    server = NatsServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
