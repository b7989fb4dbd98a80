"""The command line as a process: on a broker without services, and without any broker."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from infra.local import broker
from infra.local.settings import ROOT, inherited_environment
from infra.local.supervisor import Supervisor
from shared.telemetry import configure

pytestmark = pytest.mark.integration


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", *arguments]


def environment(data: Path) -> dict[str, str]:
    return inherited_environment() | {"MILLRACE_DATA": str(data), "PYTHONPATH": str(ROOT)}


async def cli(data: Path, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        env=environment(data),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Path]:
    identity = broker.identity_of(tmp_path)
    supervisor = Supervisor(tmp_path, lambda _change: None, grace=5.0)
    program = broker.program(tmp_path, identity, "2m", inherited_environment())
    prepare = broker.preparation(tmp_path, identity, configure("test", "error"))
    await asyncio.wait_for(supervisor.start(program, prepare).prepared.wait(), 20)
    yield tmp_path
    await supervisor.stop()


async def test_no_running_system_is_one_line(tmp_path: Path) -> None:
    code, out, err = await cli(tmp_path, "run", "hello")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "make run" in err


async def test_a_broker_that_is_gone_is_one_line_too(tmp_path: Path) -> None:
    gone = {"url": f"nats://127.0.0.1:{broker.free_port()}", "token": "t"}
    (tmp_path / "nats.json").write_bytes(orjson.dumps(gone))
    code, _, err = await cli(tmp_path, "workers")
    assert (code, err.count("\n")) == (1, 1)
    assert "nothing answers" in err
    assert "make run" in err


async def test_a_submitted_task_stands_in_the_log(data: Path) -> None:
    code, out, _ = await cli(data, "run", "17 * 23?", "--session", "s1", "--no-follow", "--json")
    assert code == 0
    task = orjson.loads(out)["task"]
    _, facts, _ = await cli(data, "logs", "s1", "--json")
    assert [orjson.loads(line)["task"] for line in facts.splitlines()] == [task]
    code, shown, _ = await cli(data, "show", task, "--session", "s1")
    assert code == 0
    assert f"{task}  queued" in shown


async def test_schedules_are_kept_by_the_broker_alone(data: Path) -> None:
    add = ("schedule", "add", "report", "Anything new?", "--session", "s1")
    code, out, _ = await cli(data, *add, "--cron", "0 8 * * MON-FRI", "--zone", "Europe/Berlin")
    assert (code, out) == (0, "schedule report: 0 8 * * MON-FRI (Europe/Berlin)\n")
    code, _, err = await cli(data, *add, "--cron", "61 * * * *")
    assert (code, err.count("\n")) == (2, 1)
    assert "invalid_schedule" in err
    _, out, _ = await cli(data, "schedule", "ls", "--json")
    assert [one["name"] for one in orjson.loads(out)] == ["report"]
    assert (await cli(data, "schedule", "rm", "report"))[0] == 0
    assert (await cli(data, "schedule", "rm", "report"))[0] == 1


async def test_control_and_replay_without_services_name_the_doctor(data: Path) -> None:
    await cli(data, "run", "17 * 23?", "--session", "s1", "--no-follow")
    for words in (("replay", "s1", "--check"), ("steer", "t1", "x", "--session", "s1")):
        code, out, err = await cli(data, *words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "millrace doctor" in err


async def test_doctor_names_every_service_that_is_away(data: Path) -> None:
    code, out, _ = await cli(data, "doctor", "--json")
    found = {check["name"]: check["outcome"] for check in orjson.loads(out)["checks"]}
    assert code == 1
    assert {found["broker"], found["streams"], found["data"]} == {"ok"}
    away = ("sessions", "router", "inference", "tools", "retrieval", "ledger")
    assert {found[name] for name in away} == {"failed"}


async def test_ctrl_c_asks_and_a_second_one_leaves_the_task(data: Path) -> None:
    leader, follower = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *command("run", "17 * 23?", "--session", "s1"),
        env=environment(data) | {"TERM": "xterm"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    screen = Screen(leader)
    await screen.shows(b"in session s1")
    await asyncio.sleep(1.5)  # nothing tells that it listens
    process.send_signal(signal.SIGINT)
    await screen.shows(b"Cancel the task?")
    os.write(leader, b"n\n")
    await asyncio.sleep(1.5)
    process.send_signal(signal.SIGINT)
    await screen.shows(b"it goes on")
    assert await asyncio.wait_for(process.wait(), 10) == 1
    os.close(leader)


class Screen:
    """What a program has written to its terminal."""

    def __init__(self, source: int) -> None:
        self._source = source
        self._seen = b""

    async def shows(self, text: bytes) -> None:
        async with asyncio.timeout(20):
            while text not in self._seen:
                os.set_blocking(self._source, False)
                try:
                    self._seen += os.read(self._source, 65_536)
                except BlockingIOError:
                    await asyncio.sleep(0.05)
