"""What the router sees of real servers: alone, joined to another site, gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.local.broker import free_port
from infra.local.server import GIB, MEMORY_STORE
from services.router.adapters.queues import Queues
from services.router.adapters.servers import Servers
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.metrics.catalogue import (
    BROKER_CONNECTIONS,
    BROKER_CONNECTIONS_LIMIT,
    BROKER_HEALTHY,
    BROKER_LEAFS,
    BROKER_LEAFS_WANTED,
    BROKER_MEMORY,
    BROKER_STORED,
    BROKER_STORED_LIMIT,
    BROKER_UP,
    STREAM_BYTES_LIMIT,
    STREAM_COPIES,
    STREAM_COPIES_CURRENT,
    STREAM_LAST_SEQUENCE,
    STREAM_LEADER,
)
from shared.settings import Address
from shared.subjects import DOCS, RUNS, STREAMS, WORK
from shared.telemetry import configure
from tests.fakes.counted import value
from tests.integration.broker_process import NatsServer
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
LOG = configure("test", "critical")
NAME = "millrace"


@pytest.fixture(scope="module")
def link() -> int:
    """Where the other site's server will listen."""
    return free_port()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, link: int) -> Iterator[NatsServer]:
    """A server that is to join another one, which is not there yet."""
    remote = f'leafnodes {{ remotes: [{{ url: "nats-leaf://127.0.0.1:{link}" }}] }}\n'
    server = NatsServer(tmp_path_factory.mktemp("edge"), remote, free_port())
    server.start()
    yield server
    server.kill()


async def look(server: NatsServer, servers: Servers | None = None) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await (servers or Servers([server.monitor_url], LOG)).look(client)


async def test_a_server_and_its_store(edge: NatsServer) -> None:
    async with open_bus(Address(edge.url, None, None), "test", LOG) as bus:
        await topology.ensure(bus)
        await bus.publish("docs.default.c.d", b"x" * 1000)
        await look(edge)
    assert (value(BROKER_UP, NAME), value(BROKER_HEALTHY, NAME)) == (1, 1)
    assert value(BROKER_CONNECTIONS, NAME) == 1
    assert value(BROKER_CONNECTIONS_LIMIT, NAME) > 1000
    assert value(BROKER_MEMORY, NAME) > 1_000_000
    assert value(BROKER_STORED, NAME, "file") > 1000
    assert value(BROKER_STORED_LIMIT, NAME, "file") == 4 * GIB
    assert value(BROKER_STORED_LIMIT, NAME, "memory") == MEMORY_STORE


async def test_its_link_to_another_site(edge: NatsServer, link: int, tmp_path: Path) -> None:
    await look(edge)
    assert (value(BROKER_LEAFS, NAME), value(BROKER_LEAFS_WANTED, NAME)) == (0, 1)
    hub = NatsServer(tmp_path, f'leafnodes {{ listen: "127.0.0.1:{link}" }}\n')
    hub.start()

    async def joined() -> bool:
        await look(edge)
        return value(BROKER_LEAFS, NAME) == 1

    try:
        await until(joined, within=60)
    finally:
        hub.kill()


async def test_it_goes_and_comes_back(edge: NatsServer) -> None:
    servers = Servers([edge.monitor_url], LOG)
    await look(edge, servers)
    edge.kill()
    await look(edge, servers)
    assert (value(BROKER_UP, NAME), value(BROKER_HEALTHY, NAME)) == (0, 0)
    assert BROKER_CONNECTIONS.found() == []
    edge.start()

    async def back() -> bool:
        await look(edge, servers)
        return value(BROKER_HEALTHY, NAME) == 1

    await until(back, within=60)


async def test_it_looks_by_itself_until_it_is_told_to_stop(edge: NatsServer) -> None:
    BROKER_UP.replace({})
    servers = Servers([edge.monitor_url], LOG, every=0.02)
    await servers.start()

    async def seen() -> bool:
        return value(BROKER_UP, NAME) == 1

    try:
        await until(seen)
    finally:
        await servers.stop()


async def test_what_the_bus_tells_of_streams(bus: Bus) -> None:
    await bus.publish("docs.default.c.d", b"{}")
    await Queues(bus).look()
    assert value(STREAM_LAST_SEQUENCE, DOCS) == 1
    assert value(STREAM_LEADER, RUNS, NAME) == 1
    assert (value(STREAM_COPIES, RUNS), value(STREAM_COPIES_CURRENT, RUNS)) == (1, 1)
    limits = {row.name: row.max_bytes for row in STREAMS if row.max_bytes > 0}
    assert WORK in limits
    assert {name: one.value for (name,), one in STREAM_BYTES_LIMIT.found()} == limits
