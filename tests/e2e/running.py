"""A whole system of one's own: `python -m infra.local` on a data folder with free ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import psutil

from infra.local.broker import free_port
from infra.local.settings import ROOT, inherited_environment

READY_WITHIN = 120.0
STOPPED_WITHIN = 45.0


@dataclass(frozen=True)
class System:
    """Where a running system can be reached, and how to hurt it."""

    http_url: str
    data: Path
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return int(self.http_url.rpartition(":")[2])

    @property
    def nats_url(self) -> str:
        return str(self._connection()["url"])

    @property
    def token(self) -> str:
        return str(self._connection()["token"])

    def _connection(self) -> dict[str, str]:
        found: dict[str, str] = orjson.loads((self.data / "nats.json").read_bytes())
        return found

    def pid_of(self, name: str) -> int:
        """The process id of a service (or `nats`); 0 while it does not run."""
        pids: dict[str, int] = orjson.loads((self.data / "pids.json").read_bytes())
        return pids.get(name, 0)

    def kill(self, name: str) -> int:
        """SIGKILL a service; answers the id it had."""
        pid = self.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_restart(self, name: str, killed: int, patience: float = 30.0) -> int:
        """The new process id of a service, once it runs as another process."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if (pid := self.pid_of(name)) not in (0, killed) and psutil.pid_exists(pid):
                return pid
            time.sleep(0.05)
        raise AssertionError(f"{name} was not restarted\n{self.logs()}")

    def await_ready(self, patience: float = READY_WITHIN) -> None:
        """Wait until `/readyz` says that nothing is missing."""
        end = time.monotonic() + patience
        answer = "no answer"
        while time.monotonic() < end:
            try:
                reply = httpx.get(f"{self.http_url}/readyz", timeout=5, trust_env=False)
            except httpx.HTTPError as error:
                answer = type(error).__name__
            else:
                if reply.status_code == 200:
                    return
                answer = reply.text
            if self.process.poll() is not None:
                raise AssertionError(f"the supervisor ended: {self.process.returncode}")
            time.sleep(0.1)
        raise AssertionError(f"not ready: {answer}\n{self.logs()}")

    def stop(self) -> int:
        """The orderly end; the supervisor's exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOPPED_WITHIN)
        finally:
            self.process.kill()

    def refusals(self) -> list[str]:
        """What the bus did not let a service do, of all that its log still holds."""
        logs = sorted((self.data / "logs").glob("*.log*"))
        lines = (line for path in logs for line in path.read_text(errors="replace").splitlines())
        return [line for line in lines if "bus.permission_denied" in line]

    def logs(self, lines: int = 8) -> str:
        """The end of every log, for the report of a failed test."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
            for path in sorted((self.data / "logs").glob("*.log"))
        )


def start(data: Path, **settings: str) -> System:
    """Start a system; it is not ready yet. `settings` without their prefix."""
    own = {f"MILLRACE_{key.upper()}": value for key, value in settings.items()}
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.local", "--data", str(data), "--port", str(port), "--quiet"],
        cwd=ROOT,
        env=inherited_environment() | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    return System(f"http://127.0.0.1:{port}", data, process)
