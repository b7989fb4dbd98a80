"""Two processes of every service under the supervisor; one of each is killed in turn.

The bus speaks TLS here: all of them start over it, work over it, and come back over it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.local.plan import SERVICES
from infra.nats.certificates import ensure_certificates
from shared.bus.connect import open_bus
from shared.client import Millrace
from shared.contracts.facts import Inferred, ToolDone
from shared.errors import Permanent
from shared.settings import Address, Tls
from shared.telemetry import configure
from tests.e2e.running import System, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
TWO = ",".join(f"{name}=2" for name in SERVICES)

TLS = "yes" if shutil.which("openssl") else "no"


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    running = start(tmp_path_factory.mktemp("doubled"), replicas=TWO, bus_tls=TLS)
    try:
        running.await_ready()
        yield running
        assert running.stop() == 0
        assert running.refusals() == []
    finally:
        running.process.kill()
        running.process.wait()


async def test_tasks_survive_the_death_of_one_of_each(doubled: System) -> None:
    assert all(doubled.pid_of(f"{name}-2") for name in SERVICES)
    async with Millrace.connect(data=doubled.data) as m:
        tasks = []
        for n, name in enumerate(("sessions", "router", "inference", "tools", "ledger")):
            for k in range(4):
                number = 11 + 4 * n + k
                task = await m.submit("assistant", f"What is {number} * 7?", session=f"s{number}")
                tasks.append((number, task))
            doubled.kill(name)
        for number, task in tasks:
            done = await task.result(90)
            assert str(number * 7) in done.output
            facts = [stored.fact for stored in await task.facts()]
            steps = [fact.step for fact in facts if isinstance(fact, Inferred | ToolDone)]
            assert len(steps) == len(set(steps))


async def test_either_ingress_answers(doubled: System) -> None:
    second = doubled.http_url.replace(str(doubled.port), str(doubled.port + 1))
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        body = {"agent": "assistant", "input": "What is 6 * 7?"}
        answers = await asyncio.gather(
            *(
                client.post(f"{url}/v1/tasks", json=body, headers={"Prefer": "wait=30"})
                for url in (doubled.http_url, second)
            )
        )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert all("42" in answer.text for answer in answers)


@pytest.mark.skipif(TLS == "no", reason="openssl is not installed")
async def test_whoever_trusts_another_authority_does_not_trust_the_bus(
    doubled: System, tmp_path: Path
) -> None:
    ensure_certificates(tmp_path, ["127.0.0.1"])
    stranger = Address(doubled.nats_url, doubled.token, None, tls=Tls(tmp_path / "ca.pem"))
    with pytest.raises(Permanent, match="untrusted_server"):
        async with open_bus(stranger, "client", configure("test", "critical")):
            pytest.fail("it was trusted")
