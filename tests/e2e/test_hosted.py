"""Models behind somebody's endpoint under `make run`: who serves them, who has their keys, and how
a route gets from one to the other and back.

The endpoint is llama.cpp on the small model; it is killed and started again.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

from infra.local.broker import free_port
from infra.local.plan import SERVICES
from infra.local.settings import ROOT, inherited_environment
from shared.bus.kv import KeyValue
from shared.client import Millrace
from shared.contracts.base import decode
from shared.contracts.facts import Inferred
from shared.contracts.workers import WorkerState
from shared.subjects import WORKERS
from tests.e2e.running import System, start
from tests.integration.provider.endpoints import KEY, llama_server
from tests.integration.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
MODELS = """
models:
  nano: {{engine: openvino, path: infra/models/nano, context: 4096}}
  hosted:
    {{engine: provider, name: nano, base_url: "http://127.0.0.1:{port}/v1", key: HOSTED_KEY,
     context: 2048, prices: {{input: "1", output: "2"}}}}
  nobody: {{engine: provider, name: n, base_url: "http://127.0.0.1:{closed}/v1"}}
  keyless: {{engine: provider, name: n, key: A_KEY_THAT_IS_NOT_SET}}
routes:
  default: [nano]
  far: [hosted, nano]
  dead: [nobody, nano]
  locked: [keyless, nano]
  near: [nano, hosted]
"""


class Hosting(NamedTuple):
    """A system whose models file names an endpoint, and how to bring that up or down."""

    system: System
    server: contextlib.ExitStack
    folder: Path
    port: int

    def up(self) -> None:
        self.server.enter_context(llama_server(self.folder, self.port))

    def down(self) -> None:
        self.server.close()


@pytest.fixture(scope="module")
def hosting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosting]:
    folder, port = tmp_path_factory.mktemp("hosted"), free_port()
    (folder / "models.yaml").write_text(MODELS.format(port=port, closed=free_port()))
    agents = folder / "agents"
    agents.mkdir()
    for route in ("far", "dead", "locked", "near"):
        (agents / f"{route}.yaml").write_text(f"route: {route}\ntools: [calculator]\n")
    with contextlib.ExitStack() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTED_KEY", KEY)
        server.enter_context(llama_server(folder, port))
        running = start(folder / "data", models=str(folder / "models.yaml"), agents=str(agents))
        try:
            running.await_ready()
            yield Hosting(running, server, folder, port)
            assert running.stop() == 0
        finally:
            running.process.kill()
            running.process.wait()


async def slots(m: Millrace, model: str) -> int | None:
    """What the worker of a model says that it can do; None where there is none."""
    states = [decode(one.value, WorkerState) for one in await KeyValue(m.bus, WORKERS).entries()]
    return next((state.slots for state in states if state.model == model), None)


async def answered(m: Millrace, agent: str, session: str) -> set[str]:
    """The models that worked on a task; its answer must be right."""
    task = await m.submit(agent, "What is 17 * 23?", session=session)
    done = await task.result(60)
    assert "391" in (done.output or ""), done
    facts = [stored.fact for stored in await task.facts()]
    calls = [fact for fact in facts if isinstance(fact, Inferred)]
    assert len(calls) == 2
    assert all(call.usage.input > 0 and call.usage.output > 0 for call in calls)
    assert all(call.price > 0 for call in calls if call.model == "hosted")
    return {call.model for call in calls}


async def test_a_route_gets_to_another_model_and_back(hosting: Hosting) -> None:
    async with Millrace.connect(data=hosting.system.data) as m:

        async def has(count: int) -> bool:
            return await slots(m, "hosted") == count

        await until(lambda: has(8), within=30)
        assert await answered(m, "far", "s1") == {"hosted"}
        hosting.down()
        assert await answered(m, "far", "s2") == {"nano"}
        await until(lambda: has(0), within=30)
        assert await answered(m, "far", "s3") == {"nano"}
        hosting.up()
        await until(lambda: has(1), within=30)
        # one call may try; the router waits for a better report before it sends another one
        assert "hosted" in await answered(m, "far", "s4")
        await until(lambda: has(8), within=30)
        assert await answered(m, "far", "s5") == {"hosted"}


@pytest.mark.parametrize("agent", ["dead", "locked"])
async def test_a_first_model_that_cannot_be_had_is_passed_over(hosting: Hosting, agent) -> None:
    async with Millrace.connect(data=hosting.system.data) as m:
        assert await answered(m, agent, f"session-{agent}") == {"nano"}
        assert not await slots(m, {"dead": "nobody", "locked": "keyless"}[agent])


async def test_a_model_of_ones_own_comes_before_a_hosted_one(hosting: Hosting) -> None:
    async with Millrace.connect(data=hosting.system.data) as m:
        assert await answered(m, "near", "s9") == {"nano"}


async def test_a_completion_goes_to_a_hosted_model_and_is_paid(hosting: Hosting) -> None:
    async with httpx.AsyncClient(base_url=hosting.system.http_url, trust_env=False) as http:
        ask = {"messages": [{"role": "user", "content": "Hello"}]}
        answer = (await http.post("/v1/chat/completions", json={"model": "hosted", **ask})).json()
        assert answer["choices"][0]["message"]["content"] == "Hello! How can I help you?"
        assert answer["usage"]["prompt_tokens"] > 0
        refused = await http.post("/v1/chat/completions", json={"model": "nobody", **ask})
        assert refused.status_code == 503
        assert "127.0.0.1 cannot be reached" in refused.json()["error"]["message"]


def test_doctor_tells_which_endpoint_is_out_and_shows_no_key(hosting: Hosting) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "--data", str(hosting.system.data), "doctor"],
        env=inherited_environment() | {"COLUMNS": "300"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nobody: 127.0.0.1 cannot be reached" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert inherited_environment()["HOSTED_KEY"] == KEY  # it was there to be shown


def test_a_key_is_known_to_the_worker_of_its_endpoint_alone(hosting: Hosting) -> None:
    holding = {
        name
        for name in ("nats", *SERVICES, "worker-hosted", "worker-nobody")
        if KEY in psutil.Process(hosting.system.pid_of(name)).environ().values()
    }
    assert holding == {"worker-hosted"}


def test_no_key_is_in_a_log_and_a_missing_one_is_named_there(hosting: Hosting) -> None:
    logs = {path.name: path.read_text() for path in (hosting.system.data / "logs").glob("*.log")}
    assert "worker-hosted.log" in logs
    assert not [name for name, text in logs.items() if KEY in text]
    assert "A_KEY_THAT_IS_NOT_SET" in logs["worker-keyless.log"]
