"""What the integration tests share: one real nats-server, and a connection to an empty system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.subjects import STREAMS
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a server that holds the topology and nothing else."""
    async with open_bus(nats_server.address(), "test", configure("test", "critical")) as bus:
        await _forget(bus)
        await topology.ensure(bus)
        yield bus


async def _forget(bus: Bus) -> None:
    """Remove what earlier tests left. A purge would keep the message ids that a stream has seen."""
    found = (await bus.api("STREAM.NAMES"))["streams"] or ()
    tables = {row.name for row in STREAMS}
    calls = ("DELETE" if name in tables else "PURGE" for name in found)
    await asyncio.gather(
        *(bus.api(f"STREAM.{call}.{name}") for call, name in zip(calls, found, strict=True))
    )
