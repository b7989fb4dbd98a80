"""A cluster as `make cluster` has it: users on every server, the token by a callout, TLS."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra.local import secured, servers
from infra.local.servers import Servers
from infra.local.settings import inherited_environment
from infra.local.supervisor import Supervisor
from services.cli.adapters.certificates import certificates_check
from services.cli.core.checks import Check
from shared.bus.connect import open_bus
from shared.bus.login import tls_context
from shared.clock import now
from shared.errors import Broken
from shared.settings import Address, BusSettings, Tls
from shared.subjects import RUNS
from shared.telemetry import configure

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
LOG = configure("test", "critical")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Servers]:
    found = servers.choose(tmp_path, 3, "1s", tls=True)
    supervisor = Supervisor(found.data, lambda _change: None)
    try:
        for program in servers.programs(found, inherited_environment()):
            supervisor.start(program)
        await servers.deploy(found, LOG)
        admitting = asyncio.create_task(secured.admit(found.address.url, found.users, LOG))
        yield found
        admitting.cancel()
        with suppress(asyncio.CancelledError):
            await admitting
    finally:
        await supervisor.stop()


async def test_every_server_knows_every_user_and_speaks_tls(cluster: Servers) -> None:
    everywhere = BusSettings(data=cluster.data, nats_url=None).address()
    for n, url in enumerate(everywhere.servers):
        own = Address(url, None, cluster.keys / "tools.nk", 3, cluster.address.tls)
        async with open_bus(own, "tools", LOG) as bus:
            ack = await bus.publish(f"run.3.acme.s{n}.tool_done", b"{}")
            assert ack.seq > 0
            with pytest.raises(Broken, match="permission_denied"):
                await bus.api(f"STREAM.DELETE.{RUNS}")
        token = Address(url, everywhere.token, None, 3, everywhere.tls)
        async with open_bus(token, "client", LOG) as bus:
            assert (await bus.api(f"STREAM.INFO.{RUNS}"))["state"]["messages"] == n + 1
        assert bus.login.tls is not None
        found = await certificates_check(bus.nc.servers, bus.login.tls, now())
        assert found == Check("tls", "ok", "the certificate ends in 824 days")
    await _the_servers_speak_tls_among_themselves(cluster)


async def _the_servers_speak_tls_among_themselves(cluster: Servers) -> None:
    """Each is asked as one of the others would ask it: by the certificate that all of them have."""
    folder = cluster.users.tls
    assert folder is not None
    tls = tls_context(Tls(folder / "ca.pem", folder / "server.pem", folder / "server.key"))
    for port in cluster.routes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            assert (await reader.readline()).startswith(b"INFO ")
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
