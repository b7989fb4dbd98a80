"""A real broker and edge services as processes on one data folder, for their tests."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local import broker
from infra.local.settings import ROOT, inherited_environment
from infra.local.supervisor import Supervisor
from shared.client import Millrace
from shared.clock import mint_trace
from shared.telemetry import configure
from tests.integration.waiting import until

LOG = configure("test", "error")


class EdgeSystem:
    """`service` runs one of our services as a process; `client` connects to the broker."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._environment = inherited_environment() | {
            "MILLRACE_DATA": str(data),
            "PYTHONPATH": str(ROOT),
        }

    @asynccontextmanager
    async def service(
        self, name: str, *, kill: bool = False, says: str = ""
    ) -> AsyncIterator[None]:
        """Run a service; afterwards end it politely (it must exit with 0) or kill it.

        With `says` it has logged that when this returns.
        """
        log = self.data / f"{name}-{mint_trace()}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"services.{name}"), env=self._environment, stderr=output
            )
        try:
            await until(lambda: says in log.read_text(), 60)
            yield
        finally:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 20)
        if not kill:
            assert code == 0

    @asynccontextmanager
    async def client(self, tenant: str = "default") -> AsyncIterator[Millrace]:
        async with Millrace.connect(data=self.data, tenant=tenant) as client:
            yield client


@asynccontextmanager
async def edge_system(data: Path) -> AsyncIterator[EdgeSystem]:
    """A broker with all its streams."""
    supervisor = Supervisor(data, lambda _change: None, grace=5.0)
    identity = broker.identity_of(data)
    program = broker.program(data, identity, "always", inherited_environment())
    prepared = supervisor.start(program, broker.preparation(data, identity, LOG)).prepared
    try:
        await asyncio.wait_for(prepared.wait(), 20)
        yield EdgeSystem(data)
    finally:
        await supervisor.stop()
