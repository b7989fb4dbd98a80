"""Where secrets are after a day on which everything goes wrong: in the files that are there to hold
them, and nowhere else on the disk, in no answer, and in nothing that an operator looks at.

The endpoint refuses its key and repeats it, the database cannot be reached, a service is killed, a
publication is denied, and a client sends what looks like lines of a log.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

from infra.local.broker import free_port
from infra.local.settings import ROOT, inherited_environment
from infra.nats.keys import read_seed
from shared.bus.connect import open_bus
from shared.client import Millrace
from shared.contracts.keys import NewKey
from shared.errors import MillraceError
from shared.keys import Keys
from shared.settings import Address
from shared.telemetry import configure
from tests.e2e.running import System, start
from tests.integration.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
PROVIDER_KEY = "sp" + "-not-of-a-known-form-4711"
PASSWORD = "pass" + "word-of-the-database-4711"
ROUTES = """
models:
  hosted: {{engine: provider, name: m, base_url: "http://127.0.0.1:{port}/v1", key: HOSTED_KEY,
            context: 2048}}
routes: {{default: [hosted]}}
"""
HOLDS = ("nats.json", "identity.json", "server.conf", "issuer.nk")
"""Files that are there to hold a secret; and the seeds, a file each."""
ODD = "line one\nlevel=error event=mine\r\n\x1b[31mred\x1b[0m\u2028level=error"


@asynccontextmanager
async def telltale(port: int) -> AsyncIterator[None]:
    """An endpoint that likes one request as little as the key of the next, and says which key."""
    statuses = itertools.cycle((b"400 Bad Request", b"401 Unauthorized"))

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        given = re.search(rb"(?i)authorization: ?([^\r]*)", head)
        said = given[1].decode() if given else ""
        body = orjson.dumps({"error": {"message": f"wrong key: {said}", "code": "bad"}})
        status = next(statuses) if head.startswith(b"POST") else b"200 OK"  # it is asked how it is
        writer.write(b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n" % status)
        writer.write(b"Connection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        yield


@dataclass(frozen=True)
class Running:
    """A system in trouble."""

    system: System
    endpoint: int


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    endpoint = free_port()
    (tmp_path / "models.yaml").write_text(ROUTES.format(port=endpoint))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTED_KEY", PROVIDER_KEY)
        system = start(
            tmp_path / "data",
            models=str(tmp_path / "models.yaml"),
            model="hosted",
            auth="keys",
            log_level="debug",
            database_url=f"postgresql://millrace:{PASSWORD}@127.0.0.1:{free_port()}/millrace",
        )
        try:
            yield Running(system, endpoint)
        finally:
            system.stop()
            system.process.wait()


async def test_no_secret_is_anywhere_else(running: Running) -> None:
    system = running.system
    await until(lambda: (system.data / "nats.json").exists(), within=90, every=0.1)
    secrets = {"provider": PROVIDER_KEY, "database": PASSWORD, "bus": system.token}
    async with Millrace.connect(data=system.data, tenant="acme") as client:
        key = await Keys(client.bus, "acme").create(NewKey())
        secrets["api"] = key.secret
        secrets["api, its secret part"] = key.secret.rpartition("_")[2]
    async with telltale(running.endpoint):
        answers = await trouble(system, key.secret)
    assert "wrong key" in answers  # what the endpoint said is passed on, but for the key
    await denied(system)
    found = await asyncio.to_thread(looked_at, system)
    assert all(found.values())
    seeds = {path.stem: read_seed(path) for path in (system.data / "nats" / "users").glob("*.nk")}
    assert len(seeds) > 8
    for name, secret in {**secrets, **seeds}.items():
        assert secret not in answers, name
        assert [where for where, text in found.items() if secret in text] == [], name
    assert await asyncio.to_thread(system.stop) == 0
    assert on_disk(system.data, {**secrets, **seeds}) == []
    check_lines(system)


async def trouble(system: System, key: str) -> str:
    """Requests that fail, each in its own way; all that was answered."""
    heard = []
    bearer = {"Authorization": f"Bearer {key}"}
    ask = {"model": "hosted", "messages": [{"role": "user", "content": ODD}]}
    async with httpx.AsyncClient(base_url=system.http_url, timeout=60, trust_env=False) as http:

        async def send(
            method: str, path: str, headers: dict[str, str], body: object = None
        ) -> httpx.Response:
            answer = await http.request(method, path, headers=headers, json=body)
            heard.append(answer.text + repr(answer.headers))
            return answer

        async def refused_by_the_endpoint() -> bool:
            try:
                answer = await send("POST", "/v1/chat/completions", bearer, ask)
            except httpx.TransportError:
                return False  # the ingress is not there yet
            return "wrong key" in answer.text

        await until(refused_by_the_endpoint, within=90, every=0.2)
        await send("POST", "/v1/chat/completions", bearer, ask)  # now it is the key
        router = system.pid_of("router")
        system.kill("router")
        await asyncio.to_thread(system.await_restart, "router", router, 60)
        for given in (f"{key[:-4]}0000", f"{key}x", key.upper()):
            assert (await send("GET", "/v1/models", {"X-Api-Key": given})).status_code == 401
        await send("GET", "/v1/models", {"Authorization": f"Basic {key}"})
        await send("GET", f"/v1/tasks/{key}", bearer)
        await send("GET", "/v1/usage", bearer)  # of a ledger without its database
        await send("POST", "/v1/tasks", bearer, {"agent": ODD})
        task = {"agent": "assistant", "input": ODD, "session": "s1"}
        await send("POST", "/v1/tasks", bearer | {"Prefer": "wait=5"}, task)
        await send("GET", "/metrics", bearer)
    return "\n".join(heard)


async def denied(system: System) -> None:
    """A service's user publishes what it must not; the server's log names it."""
    creds = system.data / "nats" / "users" / "tools.nk"
    address = Address(system.nats_url, None, creds)
    async with open_bus(address, "tools", configure("test", "critical")) as bus:
        with pytest.raises(MillraceError) as refused:
            await bus.api("STREAM.PURGE.RUNS")
    assert refused.value.code == "permission_denied"
    log = system.data / "logs" / "nats.log"
    await until(lambda: "Publish Violation" in log.read_text(errors="replace"))


def looked_at(system: System) -> dict[str, str]:
    """What an operator sees."""
    found = {}
    for what in (("doctor",), ("doctor", "--json")):
        command = (sys.executable, "-m", "services.cli", "--data", str(system.data), *what)
        environment = inherited_environment() | {"COLUMNS": "300"}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        found[" ".join(what)] = done.stdout + done.stderr
    patient = httpx.HTTPTransport(retries=7)  # a service that was killed may be on its way back
    with httpx.Client(transport=patient, timeout=20, trust_env=False) as http:
        found |= exported(http, system)
    return found


def exported(http: httpx.Client, system: System) -> dict[str, str]:
    """What the processes tell of themselves."""
    found = {}
    for row in orjson.loads((system.data / "metrics.json").read_bytes()):
        if row["labels"]["service"] == "ledger":
            continue  # without its database it ends, and is started again
        for path in ("metrics", "healthz", "readyz"):
            url = f"http://{row['targets'][0]}/{path}"
            found[url] = http.get(url).text
    return found


def on_disk(data: Path, secrets: dict[str, str]) -> list[tuple[str, str]]:
    """Which secret is in which file that is not there to hold it: logs, facts, queues, tables."""
    wanted = {name: secret.encode() for name, secret in secrets.items()}
    found = []
    for path in data.rglob("*"):
        if path.is_file() and path.name not in HOLDS and path.suffix != ".nk":
            body = path.read_bytes()
            found += [(name, str(path)) for name, secret in wanted.items() if secret in body]
    return found


def check_lines(system: System) -> None:
    """No line of a log is a client's, and none of its control characters reaches a terminal."""
    logs = {path.name: path.read_text() for path in (system.data / "logs").glob("*.log*")}
    assert "event=" in logs["ingress.log"]
    for name, text in logs.items():
        assert "\x1b" not in text, name
        lines = re.split(r"[\r\n\u2028]", text)
        assert not [line for line in lines if line.lstrip().startswith("level=error")], name
