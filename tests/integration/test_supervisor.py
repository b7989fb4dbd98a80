"""The supervisor with real processes: restart, orderly stop, no orphans."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from infra.local import broker
from infra.local.child import Change
from infra.local.folder import locked
from infra.local.plan import Program
from infra.local.settings import ROOT
from infra.local.supervisor import Supervisor

pytestmark = pytest.mark.integration
PATIENCE = 30.0


def until[T](probe: Callable[[], T | None], what: str) -> T:
    """Wait for the probe to find something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if (found := probe()) is not None:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never saw {what}")


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


class Running:
    """A supervisor process on a data folder."""

    def __init__(self, data: Path, grace: float) -> None:
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.supervised", str(data), str(grace)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )

    def pids(self) -> dict[str, int] | None:
        path = self.data / "pids.json"
        found: dict[str, int] = orjson.loads(path.read_bytes()) if path.exists() else {}
        return found if {"sleeper", "stubborn"} <= set(found) else None

    def both(self) -> dict[str, int]:
        """The ids once both children are what they shall be, no longer their tether."""
        pids = until(self.pids, "both children")
        for pid in pids.values():
            until(lambda pid=pid: "tether" not in " ".join(cmdline(pid)) or None, "the program")
        time.sleep(0.2)  # the stubborn one installs its handler
        return pids


def cmdline(pid: int) -> list[str]:
    return psutil.Process(pid).cmdline()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[float], Running]]:
    started: list[Running] = []

    def start(grace: float = 1.0) -> Running:
        started.append(Running(tmp_path, grace))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_killed_child_is_restarted_and_the_other_is_left_alone(
    running: Callable[..., Running],
) -> None:
    system = running()
    before = system.both()
    os.kill(before["sleeper"], signal.SIGKILL)
    after = until(
        lambda: p if (p := system.pids()) and p["sleeper"] != before["sleeper"] else None,
        "a new sleeper",
    )
    assert alive(after["sleeper"])
    assert after["stubborn"] == before["stubborn"]


async def test_a_lost_program_stays_down_until_it_is_started_again(tmp_path: Path) -> None:
    heard: list[Change] = []
    supervisor = Supervisor(tmp_path, heard.append)
    program = Program("sleeper", ("sleep", "600"))
    try:
        first = supervisor.start(program)
        await first.prepared.wait()
        await supervisor.lose("sleeper")
        assert [change.state for change in heard] == ["starting", "running", "stopped"]
        assert not alive(heard[0].pid)
        again = supervisor.start(program)
        await again.prepared.wait()
        second = heard[-1].pid
        assert alive(second)
    finally:
        await supervisor.stop()
    assert not alive(second)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_children_die_with_a_killed_supervisor(running: Callable[..., Running]) -> None:
    system = running()
    pids = system.both()
    system.process.kill()
    system.process.wait()
    for pid in pids.values():
        until(lambda pid=pid: not alive(pid) or None, f"the end of {pid}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_even_the_stubborn_within_the_grace(
    running: Callable[..., Running], number: signal.Signals
) -> None:
    system = running(0.5)
    pids = system.both()
    system.process.send_signal(number)
    assert system.process.wait(PATIENCE) == 0
    assert not [pid for pid in pids.values() if alive(pid)]
    assert not (system.data / "pids.json").exists()


def millrace(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    """Run the real program where it must refuse to start."""
    return subprocess.run(
        [sys.executable, "-m", "infra.local", "--data", str(data), "--port", str(port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_second_system_on_the_same_data_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path):
        refused = millrace(tmp_path, broker.free_port())
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stderr


def test_a_used_http_port_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = millrace(tmp_path, taken.getsockname()[1])
    assert refused.returncode == 1
    assert "MILLRACE_HTTP_PORT" in refused.stderr
