"""The system under test: real processes on a folder of their own, each kept alive by a supervisor.

The services are the product's, except that workers have a scripted engine and tools are the
suite's own. Faults are done by process id, to what this system started and to nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import nats.errors
import orjson

from infra.local.broker import free_port
from infra.local.child import Change
from infra.local.plan import Program, service_environment
from infra.local.settings import ROOT, inherited_environment
from infra.local.supervisor import Supervisor
from shared.bus.connect import open_bus
from shared.errors import MillraceError
from shared.settings import Address
from shared.telemetry import configure
from tests.chaos.brokers import Broker
from tests.chaos.evidence import Fault
from tests.chaos.records import real_now

MODELS = """
models: {scripted: {engine: openvino, path: ".", context: 1048576, concurrency: 32,
  prices: {input: "3", output: "15"}}}
routes: {default: [scripted]}
"""
AGENT = """
instructions: You do what you are told.
tools: [echo, slow, flaky, refuse, effect]
limits: {max_steps: 300, deadline_s: 900, max_tokens: 100000000}
sampling: {max_tokens: 100000}
"""
READY_WITHIN = 90.0
CLOCKS = "clocks.json"


@dataclass(frozen=True)
class Layout:
    """How many of each service there are."""

    sessions: int = 2
    routers: int = 2
    workers: int = 2
    tools: int = 2
    ingresses: int = 2


@dataclass
class System:
    """The running system, and what was done to it."""

    data: Path
    broker: Broker
    seed: int
    layout: Layout = field(default_factory=Layout)
    ports: list[int] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    pids: dict[str, int] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    @property
    def address(self) -> Address:
        return self.broker.address

    @property
    def urls(self) -> list[str]:
        """Of the ingresses."""
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    @property
    def services(self) -> list[str]:
        """The names of what runs beside the broker."""
        return sorted(name for name in self.pids if name not in self.broker.names)

    def changed(self, change: Change) -> None:
        """The supervisor reports."""
        if change.pid:
            self.pids[change.name] = change.pid
        elif change.state == "failed":
            self.pids[change.name] = 0

    def signal(self, name: str, number: signal.Signals, kind: str) -> bool:
        """Do something to a program and note it; false where it does not run at the moment."""
        pid = self.pids.get(name, 0)
        if not pid:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        self.note(kind, name)
        return True

    def note(self, kind: str, target: str) -> None:
        """A fault was done now."""
        self.faults.append(Fault(kind, target, real_now()))

    async def freeze(self, name: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later to the same process, whatever happens meanwhile."""
        pid = self.pids.get(name, 0)
        if not pid or not self.signal(name, signal.SIGSTOP, "freeze"):
            return
        self.stopped.add(name)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
            self.stopped.discard(name)
            self.note("thaw", name)

    def set_clocks(self, offsets: dict[str, float]) -> None:
        """From now on these programs' wall clocks are off by so many seconds."""
        draft = self.data / "clocks.new"
        draft.write_bytes(orjson.dumps(offsets))
        draft.replace(self.data / CLOCKS)

    async def ready(self, within: float = READY_WITHIN) -> None:
        """Wait until all parts answer.

        Raises:
            TimeoutError: they do not, `within` seconds.
        """
        parts = ("sessions", "router", "tools", "inference", "ledger")
        log = configure("chaos", "critical")
        async with asyncio.timeout(within):
            async with open_bus(self.address, "chaos-ready", log) as bus:
                for name in parts:
                    while not await _answers(bus.request(f"health.{name}", b"", 1.0)):
                        await asyncio.sleep(0.2)
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                for url in self.urls:
                    while not await _answers(http.get(f"{url}/healthz")):
                        await asyncio.sleep(0.2)
            await asyncio.sleep(1.2)  # the workers' first report


async def _answers(question: object) -> bool:
    try:
        await question  # type: ignore[misc]  # a coroutine
    except (MillraceError, nats.errors.Error, httpx.HTTPError):
        return False
    return True


def _programs(system: System, environment: dict[str, str]) -> list[Program]:
    layout = system.layout
    python = (sys.executable, "-m")
    rows: list[tuple[str, str, dict[str, str]]] = [
        (f"sessions-{n}", "services.sessions", {}) for n in range(layout.sessions)
    ]
    rows += [(f"router-{n}", "services.router", {}) for n in range(layout.routers)]
    rows += [
        (f"worker-{n}", "tests.chaos.worker", {"MILLRACE_WORKER_ID": f"worker-{n}"})
        for n in range(layout.workers)
    ]
    rows += [(f"tools-{n}", "tests.chaos.tools", {}) for n in range(layout.tools)]
    rows += [("ledger", "services.ledger", {})]
    rows += [
        (f"ingress-{n}", "services.ingress", {"MILLRACE_HTTP_PORT": str(port)})
        for n, port in enumerate(system.ports)
    ]
    return [
        Program(name, (*python, module), {**environment, **extra, "CHAOS_NAME": name})
        for name, module, extra in rows
    ]


def _environment(system: System) -> dict[str, str]:
    data = system.data
    ours = {
        "MILLRACE_DATA": str(data),
        "MILLRACE_NATS_URL": system.address.url,
        "MILLRACE_NATS_TOKEN": system.address.token or "",
        "MILLRACE_STREAM_REPLICAS": str(system.address.replicas),
        "MILLRACE_MODELS": str(data / "models.yaml"),
        "MILLRACE_AGENTS": str(data / "agents"),
        "MILLRACE_MODEL": "scripted",
        "MILLRACE_LOG_LEVEL": "info",
        "CHAOS_SEED": str(system.seed),
        "CHAOS_CLOCK": str(data / CLOCKS),
    }
    found = service_environment(inherited_environment(), ours, ROOT)
    return {**found, "PYTHONPATH": f"{ROOT / 'tests' / 'chaos' / 'clock'}:{ROOT}"}


@asynccontextmanager
async def running_system(
    data: Path, broker: Broker, seed: int, layout: Layout
) -> AsyncIterator[System]:
    """Start everything, and stop it in order at the end, within bounds."""
    (data / "agents").mkdir(parents=True)
    (data / "models.yaml").write_text(MODELS)
    (data / "agents" / "chaos.yaml").write_text(AGENT)
    ports = [free_port() for _ in range(layout.ingresses)]
    system = System(data, broker, seed, layout, ports)
    system.set_clocks({})
    supervisor = Supervisor(data, system.changed)
    try:
        await broker.start(supervisor)
        for program in _programs(system, _environment(system)):
            supervisor.start(program)
        await system.ready()
        yield system
    finally:
        await broker.end()
        await supervisor.stop()
        await broker.release()
