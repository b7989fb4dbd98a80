"""The embedded nats-server under the supervisor: reachable, restarted, nothing stored is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from infra.local import broker
from infra.local.__main__ import check
from infra.local.broker import free_port
from infra.local.child import Change
from infra.local.settings import LocalSettings, inherited_environment
from infra.local.supervisor import Supervisor
from shared.bus.connect import Bus, open_bus
from shared.errors import Permanent
from shared.settings import Address
from shared.subjects import STREAMS
from shared.telemetry import configure

pytestmark = pytest.mark.integration
LOG = configure("test", "error")


class Server:
    """A supervised server and every change it went through."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.changes: list[Change] = []
        self.supervisor = Supervisor(data, self.changes.append, grace=5.0)
        self.identity = broker.identity_of(data)

    async def start(self) -> None:
        program = broker.program(self.data, self.identity, "always", inherited_environment())
        prepare = broker.preparation(self.data, self.identity, LOG)
        await asyncio.wait_for(self.supervisor.start(program, prepare).prepared.wait(), 20)

    def address(self) -> Address:
        found = orjson.loads((self.data / "nats.json").read_bytes())
        return Address(found["url"], found["token"], None)

    async def runs_again(self) -> None:
        async with asyncio.timeout(20):
            while True:
                if [c.state for c in self.changes].count("running") == 2:
                    return
                await asyncio.sleep(0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    one = Server(tmp_path)
    await one.start()
    yield one
    await one.supervisor.stop()


async def names(bus: Bus) -> set[str]:
    return set((await bus.api("STREAM.NAMES"))["streams"])


async def test_every_stream_exists_once_the_server_is_prepared(server: Server) -> None:
    async with open_bus(server.address(), "test", LOG) as bus:
        assert {row.name for row in STREAMS} <= await names(bus)


async def test_the_connection_file_is_private(server: Server) -> None:
    mode = (server.data / "nats.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


async def test_a_client_without_the_token_is_refused(server: Server) -> None:
    """Spoken by hand, because nats-py leaves the refused connection's socket open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.identity.port)
    await reader.readline()
    writer.write(b"CONNECT {}\r\nPING\r\n")
    assert b"Authorization Violation" in await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    await writer.wait_closed()


async def test_a_killed_server_comes_back_with_its_facts_and_its_memory_streams(
    server: Server,
) -> None:
    async with open_bus(server.address(), "test", LOG) as bus:
        stored = await bus.publish("tasks.default.assistant.s1", b'{"input": "hello"}')
        os.kill(server.changes[-1].pid, signal.SIGKILL)
        await server.runs_again()
        async with open_bus(server.address(), "test2", LOG) as again:
            assert {row.name for row in STREAMS} <= await names(again)
            info = await again.api("STREAM.INFO.RUNS")
    assert info["state"]["last_seq"] == stored.seq == 1


async def test_another_start_keeps_the_token(server: Server) -> None:
    assert broker.identity_of(server.data).token == server.identity.token


def test_tls_of_somebody_elses_server_is_not_ours_to_switch_on() -> None:
    with pytest.raises(Permanent, match="MILLRACE_NATS_CA") as refused:
        check(LocalSettings(http_port=free_port(), nats_url="nats://x:4222", bus_tls=True))
    assert (refused.value.code, refused.value.field) == ("invalid_setting", "MILLRACE_BUS_TLS")


def test_the_embedded_server_is_no_cluster() -> None:
    with pytest.raises(Permanent) as refused:
        check(LocalSettings(http_port=free_port(), stream_replicas=3))
    assert refused.value.code == "invalid_setting"
    assert "MILLRACE_STREAM_REPLICAS" in refused.value.detail
