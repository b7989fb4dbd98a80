"""Ways into the bus, on a real server: keys, the token of `nats.json`, certificates, tenants."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from infra.local import secured
from infra.nats.certificates import ensure_certificates
from infra.nats.config import tls_text
from infra.nats.keys import ensure_tenant, new_seed, write_security
from infra.nats.reloading import reload
from infra.nats.topology import deploy, keep
from shared.bus.connect import open_bus
from shared.bus.edge import make_broker
from shared.bus.login import seed_file, tls_context
from shared.client import Millrace
from shared.errors import Broken, Permanent
from shared.settings import Address, Tls
from shared.subjects import WORK
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer

pytestmark = pytest.mark.integration
SILENT = configure("test", "critical")
OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("users")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[NatsServer]:
    """As under `make run`: users, and a callout for whoever has the token."""
    secured.prepare(folder, "token-of-the-tests")
    found = NatsServer(folder, secured.INCLUDE)
    found.start()
    yield found
    found.kill()


def key_of(folder: Path, server: NatsServer, user: str) -> Address:
    return Address(server.url, None, folder / "users" / f"{user}.nk")


@asynccontextmanager
async def running(coroutine) -> AsyncIterator[None]:
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def admitting(folder: Path, server: NatsServer) -> AsyncIterator[None]:
    users = secured.prepare(folder, server.token)
    async with running(secured.admit(server.url, users, SILENT)):
        async with open_bus(Address(server.url, server.token, None), "client", SILENT):
            pass  # it is there, once it has let somebody in
        yield


async def refused(server: NatsServer, **options) -> bool:
    """Whether a client does not get in."""

    async def quiet(_error: Exception) -> None:
        """The error is the outcome."""

    client = Client()
    try:
        await client.connect(server.url, allow_reconnect=False, error_cb=quiet, **options)
    except ssl.SSLCertVerificationError:  # it was this client that refused
        raise
    except (nats.errors.Error, ConnectionError, ssl.SSLError):
        return True
    else:
        return False
    finally:
        if "tls" not in options:  # one whose handshake failed never says that it is closed
            await client.close()


async def test_the_token_of_this_machine_is_the_operator(folder: Path, server: NatsServer) -> None:
    async with admitting(folder, server):
        async with open_bus(Address(server.url, server.token, None), "client", SILENT) as bus:
            await deploy(Address(server.url, server.token, None), SILENT)
            ack = await bus.publish("tasks.default.assistant.s1", b'{"input": "hello"}')
            assert ack.seq > 0
            assert not bus.denials.counts
        assert await refused(server, token="wrong")  # noqa: S106  # the point
        assert await refused(server)


async def test_a_key_that_the_server_does_not_know_is_refused(
    folder: Path, server: NatsServer
) -> None:
    async with admitting(folder, server):
        assert await refused(server, nkeys_seed_str=new_seed())


async def test_what_was_in_memory_is_made_anew_after_a_restart(
    folder: Path, server: NatsServer
) -> None:
    """Services may not do it themselves, and WORK is in memory."""
    admin = key_of(folder, server, "admin")
    async with running(keep(admin, SILENT)), open_bus(admin, "admin", SILENT) as bus:
        await deploy(admin, SILENT)
        await asyncio.to_thread(server.restart)
        for _ in range(300):
            await asyncio.sleep(0.1)
            with suppress(Exception):
                assert (await bus.api(f"STREAM.INFO.{WORK}"))["config"]["name"] == WORK
                return
    pytest.fail("WORK was not made again")


async def test_a_tenant_gets_in_while_the_server_runs(folder: Path, server: NatsServer) -> None:
    await deploy(key_of(folder, server, "admin"), SILENT)
    path = ensure_tenant(folder, "late")
    write_security(folder)
    await reload(server.address(), folder, 1, SILENT)
    address = Address(server.url, None, path)
    async with open_bus(address, "client", SILENT) as bus:
        await bus.publish("tasks.late.assistant.s1", b'{"input": "hello"}')  # the first time
        with pytest.raises(Permanent, match="wrong_tenant"):
            Millrace(bus, "other")
    async with open_bus(address, "client", SILENT) as bus:
        with pytest.raises(Broken, match="permission_denied"):
            await bus.publish("tasks.other.assistant.s1", b'{"input": "hello"}')


async def test_a_client_finds_its_key_in_the_environment(
    folder: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_NATS_CREDS", str(folder / "users" / "admin.nk"))
    async with Millrace.connect(server.url) as millrace:
        assert millrace.bus.login.user == "admin"


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    folder = tmp_path_factory.mktemp("tls")
    ensure_certificates(folder / "tls", ["localhost", "127.0.0.1"])
    write_security(folder)
    text = tls_text(folder / "tls") + secured.INCLUDE
    found = NatsServer(folder, text, tls=tls_context(certificates(folder)))
    found.start()
    yield found
    found.kill()


def certificates(folder: Path) -> Tls:
    pem = folder / "tls"
    return Tls(pem / "ca.pem", pem / "client.pem", pem / "client.key")


def encrypted_address(server: NatsServer, user: str) -> Address:
    tls = certificates(server.folder)
    return Address(server.url, None, server.folder / "users" / f"{user}.nk", tls=tls)


@OPENSSL
async def test_both_connections_of_a_service_are_encrypted(encrypted: NatsServer) -> None:
    await deploy(encrypted_address(encrypted, "admin"), SILENT)
    address = encrypted_address(encrypted, "tools")
    async with open_bus(address, "tools", SILENT) as bus:
        assert (await bus.publish("run.3.acme.s1.tool_done", b"{}")).seq > 0
        broker = make_broker(address, "tools", bus.denials)
        await broker.start()
        try:
            assert await broker.ping(5)
        finally:
            await broker.stop()


@OPENSSL
async def test_a_server_of_another_authority_is_not_trusted(
    encrypted: NatsServer, tmp_path: Path
) -> None:
    ensure_certificates(tmp_path, ["127.0.0.1"])
    (tmp_path / "tools.nk").write_bytes(seed_file("tools", new_seed()))
    tls = Tls(tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key")
    address = Address(encrypted.url, None, tmp_path / "tools.nk", tls=tls)
    await not_trusted(address, "certificate verify failed|self-signed|unable to get")


@OPENSSL
async def test_a_server_under_a_name_that_is_not_in_its_certificate_is_not_trusted(
    encrypted: NatsServer,
) -> None:
    """Another way to write the same address."""
    good = encrypted_address(encrypted, "tools")
    url = encrypted.url.replace("127.0.0.1", "127.1")
    await not_trusted(Address(url, None, good.creds, tls=good.tls), "Hostname mismatch")


@OPENSSL
async def test_a_server_that_has_no_tls_is_told_nothing(
    encrypted: NatsServer, folder: Path, server: NatsServer
) -> None:
    """Else whoever stands in between need only leave TLS out of the server's first words."""
    tls = encrypted_address(encrypted, "tools").tls
    address = Address(server.url, None, folder / "users" / "tools.nk", tls=tls)
    await not_trusted(address, "does not begin with TLS")


async def not_trusted(address: Address, reason: str) -> None:
    with pytest.raises(Permanent, match=reason) as found:
        async with open_bus(address, "tools", SILENT):
            pytest.fail("it was trusted")
    assert (found.value.code, found.value.field) == ("untrusted_server", "MILLRACE_NATS_CA")


@OPENSSL
async def test_without_a_certificate_nobody_gets_in(encrypted: NatsServer) -> None:
    seed = (encrypted.folder / "users" / "admin.nk").read_text().splitlines()[1]
    trusting = tls_context(Tls(encrypted.folder / "tls" / "ca.pem"))
    first = {"tls": trusting, "tls_handshake_first": True}
    assert await refused(encrypted, nkeys_seed_str=seed, **first)
