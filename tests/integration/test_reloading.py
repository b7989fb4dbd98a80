"""Users that come while the servers run: when the reload returns, the servers know them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.nats import reloading
from infra.nats.keys import SECURITY_FILE, ensure_tenant, write_security
from infra.nats.reloading import reload
from shared.bus.connect import open_bus
from shared.errors import Permanent, Transient
from shared.settings import Address
from tests.integration import secured_server
from tests.integration.secured_server import SILENT, Secured

pytestmark = pytest.mark.integration
STALL = 2.0


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    secured = secured_server.start(tmp_path)
    yield secured
    secured.server.kill()


async def submits(secured: Secured, tenant: str) -> bool:
    """Whether its very first message is taken."""
    address = Address(secured.server.url, None, secured.folder / "users" / f"tenant-{tenant}.nk")
    async with open_bus(address, "client", SILENT) as bus:
        ack = await bus.publish(f"tasks.{tenant}.assistant.s1", b'{"input": "hello"}')
    return ack.seq > 0


async def test_a_new_tenant_is_known_at_once(secured: Secured) -> None:
    ensure_tenant(secured.folder, "late")
    write_security(secured.folder)
    await reload(secured.server.address(), secured.folder, 1, SILENT)
    assert await submits(secured, "late")
    assert await submits(secured, "acme"), "and the others still are"


async def test_a_server_that_stands_still_reads_them_when_it_goes_on(secured: Secured) -> None:
    """Of two signals it would have seen one, and known the tenant by half for ever."""
    ensure_tenant(secured.folder, "late")
    write_security(secured.folder)
    secured.server.tell(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(STALL, secured.server.tell, signal.SIGCONT)
    await reload(secured.server.address(), secured.folder, 1, SILENT)
    assert await submits(secured, "late")


async def test_what_a_server_cannot_read_is_said_in_its_words(secured: Secured) -> None:
    (secured.folder / SECURITY_FILE).write_text("accounts { X: { users: 7 } }")
    with pytest.raises(Permanent, match="users") as refused:
        await reload(secured.server.address(), secured.folder, 1, SILENT)
    assert refused.value.code == "invalid_configuration"
    assert await submits(secured, "acme"), "it goes on with what it had"


@pytest.mark.parametrize("missing", ["server", "one of two", "key"])
async def test_servers_that_do_not_answer(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(reloading, "_PATIENCE", 1.0)
    if missing == "server":
        secured.server.kill()
    if missing == "key":
        (secured.folder / "users" / "monitor.nk").write_bytes(
            (secured.folder / "users" / "tenant-acme.nk").read_bytes()
        )
    with pytest.raises(Transient):
        await reload(secured.server.address(), secured.folder, 2, SILENT)
