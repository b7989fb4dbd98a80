"""Services as real processes on the tests' server, to be signalled as an operator would.

`python -m tests.integration.service_processes SECONDS` is an inference worker whose scripted model
takes so long for a token; everything around the engine is the product's own.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.settings import ROOT, inherited_environment
from services.inference.settings import Settings
from shared.bus.connect import Bus
from shared.bus.service import run_service, running
from shared.clock import monotonic
from shared.errors import Transient
from tests.fakes.scripted_model import scripted_model
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import worker_parts

DRAINED_WITHIN = 20.0
WORKER = "tests.integration.service_processes"
MODELS = """
models: {nano: {engine: openvino, path: ".", context: 16384, concurrency: 8}}
routes: {default: [nano]}
"""
AGENT = "tools: [calculator, search_knowledge]\nlimits: {max_steps: 400}\n"


class Processes:
    """Starts services; all are killed at the end of the test."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        (folder / "models.yaml").write_text(MODELS)
        (folder / "agents").mkdir()
        (folder / "agents" / "summer.yaml").write_text(AGENT)
        self._log = folder / "services.log"
        self._environment = {
            **inherited_environment(), "PYTHONPATH": str(ROOT), "MILLRACE_NATS_URL": server.url,
            "MILLRACE_NATS_TOKEN": server.token, "MILLRACE_MODELS": str(folder / "models.yaml"),
            "MILLRACE_AGENTS": str(folder / "agents"), "MILLRACE_DATA": str(folder),
        }  # fmt: skip
        self._running: list[subprocess.Popen[bytes]] = []

    def also(self, **environment: str) -> None:
        """Further variables for what is started from now on."""
        self._environment |= environment

    def start(self, module: str, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """`services.NAME` for a name, else the module; `settings` without their prefix."""
        name = module if "." in module else f"services.{module}"
        own = {f"MILLRACE_{key.upper()}": value for key, value in settings.items()}
        with self._log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", name, *arguments],
                env=self._environment | own,
                stdout=out,
                stderr=out,
                cwd=ROOT,
            )
        self._running.append(process)
        return process

    def kill(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@contextmanager
def processes(server: NatsServer, folder: Path) -> Iterator[Processes]:
    started = Processes(server, folder)
    try:
        yield started
    finally:
        started.kill()


async def drained(process: subprocess.Popen[bytes]) -> float:
    """Ask a process to end; the seconds that it took. It must end by itself, in order."""
    began = monotonic()
    process.send_signal(signal.SIGTERM)
    code = await asyncio.to_thread(process.wait, DRAINED_WITHIN)
    assert code == 0
    return monotonic() - began


async def answering(bus: Bus, *names: str) -> None:
    """Wait until these services are ready."""
    async with asyncio.timeout(90):
        for name in names:
            while True:
                try:
                    await bus.request(f"health.{name}", b"", 0.5)
                    break
                except Transient:
                    await asyncio.sleep(0.1)


def main() -> None:
    settings, seconds = Settings(), float(sys.argv[1])

    async def compose(bus: Bus, stop: asyncio.Event) -> None:
        model = scripted_model(settings.model, settings.worker, seconds)
        await model.chat.start()
        async with running(bus, *worker_parts(bus, model)):
            await stop.wait()

    run_service("inference", settings, compose)


if __name__ == "__main__":
    main()
