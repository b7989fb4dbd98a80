"""What both benches run on: a real broker, processes of their own, and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.local.settings import inherited_environment
from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.settings import Address
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer

ROOT = Path(__file__).resolve().parents[2]
MODELS = """
models: {instant: {engine: openvino, path: ".", context: 16384, concurrency: 256}}
routes: {default: [instant]}
"""


@dataclass(frozen=True)
class System:
    """A broker with the product's streams; `environment` is what a service needs to find it."""

    folder: Path
    server: int
    bus: Bus
    environment: dict[str, str]

    @contextmanager
    def processes(
        self, modules: list[list[str]], extra: dict[str, str] | None = None
    ) -> Iterator[list[int]]:
        """Run `python -m ...` for each, and end them by pid; the broker is the last of the pids."""
        with (self.folder / "bench.log").open("ab") as out:
            started = [
                subprocess.Popen(
                    [sys.executable, "-m", *argv],
                    env=self.environment | (extra or {}),
                    stdout=out,
                    stderr=out,
                    cwd=ROOT,
                )
                for argv in modules
            ]
        try:
            yield [*(one.pid for one in started), self.server]
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(20)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time so far (Linux: /proc/PID/stat, fields 14 and 15)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def system(agents: dict[str, str]) -> AsyncIterator[System]:
    """Start the broker; where the bench fails, the processes' last words are printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models.yaml").write_text(MODELS)
        (folder / "agents").mkdir()
        for agent, text in agents.items():
            (folder / "agents" / f"{agent}.yaml").write_text(text)
        server = NatsServer(folder)
        server.start()
        environment = {
            **inherited_environment(), "PYTHONPATH": str(ROOT), "MILLRACE_NATS_URL": server.url,
            "MILLRACE_NATS_TOKEN": server.token, "MILLRACE_MODELS": str(folder / "models.yaml"),
            "MILLRACE_AGENTS": str(folder / "agents"), "MILLRACE_MODEL": "instant",
            "MILLRACE_DATA": str(folder), "MILLRACE_LOG_LEVEL": "warning",
        }  # fmt: skip
        address = Address(server.url, server.token, None)
        try:
            async with open_bus(address, "bench", configure("bench", "error")) as bus:
                await topology.ensure(bus)
                yield System(folder, server.pid, bus, environment)
        except BaseException:
            sys.stderr.write((folder / "bench.log").read_text()[-4000:])
            raise
        finally:
            server.kill()
