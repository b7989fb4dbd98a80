"""The ingress as a process on a free loopback port, beside a real broker and real services."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx

from infra.local.broker import free_port
from infra.local.settings import ROOT, inherited_environment
from tests.integration.edge_system import EdgeSystem, edge_system

PATIENCE = 90.0


@dataclass
class Ingress:
    """A running ingress: its address, its process and the system behind it."""

    url: str
    process: asyncio.subprocess.Process
    http: httpx.AsyncClient
    system: EdgeSystem | None = None

    async def ready(self, *but: str) -> list[str]:
        """Wait until nothing is missing except what the test has not started."""
        async with asyncio.timeout(PATIENCE):
            while True:
                missing = (await self.http.get("/readyz")).json()["missing"]
                if not set(missing) - set(but):
                    return list(missing)
                await asyncio.sleep(0.2)

    async def terminate(self) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 20)


@asynccontextmanager
async def ingress(data: Path, log: Path | None = None, **more: str) -> AsyncIterator[Ingress]:
    """An ingress on a data folder, with or without a broker there; `log` gets all that it says."""
    port = free_port()
    environment = inherited_environment() | {
        "MILLRACE_DATA": str(data),
        "MILLRACE_HTTP_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        **more,
    }
    with log.open("ab") if log else nullcontext() as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.ingress"),
            env=environment,
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        found = Ingress(url, process, http)
        try:
            await _listening(http)
            yield found
        finally:
            if process.returncode is None:
                assert await found.terminate() == 0


async def _listening(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await http.get("/healthz")
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return


@asynccontextmanager
async def whole_system(data: Path, services: Sequence[str]) -> AsyncIterator[Ingress]:
    """A broker, these services as processes, and an ingress in front of them."""
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(edge_system(data))
        for name in services:
            await stack.enter_async_context(system.service(name))
        front = await stack.enter_async_context(ingress(data))
        front.system = system
        yield front
