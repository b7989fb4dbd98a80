"""A worker whose engine breaks: it ends, is started again, and its work goes on meanwhile or then.

The supervisor, the worker's process and its engine are the real ones; only the bug is planted.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infra.local.child import Change
from infra.local.plan import Program
from infra.local.settings import ROOT, inherited_environment
from infra.local.supervisor import Supervisor
from shared.bus.connect import Bus
from shared.contracts import facts as f
from shared.dead import DeadLetters
from tests.contract.engines.tiny_model import build_tiny_model
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
WITHIN = 40.0


@dataclass
class Workers:
    """Processes of `breaking_worker` under a supervisor, and what it said of them."""

    supervisor: Supervisor
    environment: dict[str, str]
    data: Path
    changes: list[Change] = field(default_factory=list)

    def start(self, name: str) -> Path:
        """Keep a worker running; answers the file that breaks it."""
        own = self.data / name
        own.mkdir()
        build_tiny_model(own / "tiny")
        environment = {"MILLRACE_DATA": str(own), "MILLRACE_WORKER_ID": name}
        argv = (sys.executable, "-m", "tests.integration.breaking_worker")
        self.supervisor.start(Program(name, argv, self.environment | environment))
        return own / "bug"

    def failures(self, name: str) -> list[str]:
        failed = [one for one in self.changes if (one.name, one.state) == (name, "failed")]
        return [one.detail.partition(";")[0] for one in failed]


def worker_environment(server: NatsServer) -> dict[str, str]:
    return {
        **inherited_environment(), "PYTHONPATH": str(ROOT), "MILLRACE_NATS_URL": server.url,
        "MILLRACE_NATS_TOKEN": server.token, "MILLRACE_MODEL": "nano",
    }  # fmt: skip


@asynccontextmanager
async def workers(server: NatsServer, folder: Path) -> AsyncIterator[Workers]:
    environment = worker_environment(server)
    changes: list[Change] = []
    supervisor = Supervisor(folder, changes.append)
    try:
        yield Workers(supervisor, environment, folder, changes)
    finally:
        await supervisor.stop()


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        await loop.start("tools", "sessions", "router")
        yield loop


async def answer(loop: Loop, session: str) -> tuple[f.Done, list[str]]:
    """Of a task that says always the same: its end, and what failed attempts are told.

    Without those for which there was no worker: how many depends on how fast one starts.
    """
    task = await loop.client.submit("helper", "hello", session=session)
    done = await task.result(WITHIN)
    facts = [stored.fact for stored in await task.facts()]
    codes = [fact.error.code for fact in facts if isinstance(fact, f.InferFailed)]
    return done, [code for code in codes if code != "no_worker"]


async def test_a_broken_engine_costs_an_attempt_and_no_answer(
    loop: Loop, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with workers(nats_server, tmp_path) as workers_:
        bug = workers_.start("w1")
        before, failed = await answer(loop, "s1")
        assert (before.status, failed) == ("completed", [])
        bug.touch()
        after, failed = await answer(loop, "s2")
        assert (after.status, after.output) == ("completed", before.output)
        assert failed == ["engine_broken"]
        assert workers_.failures("w1") == ["ended with code 1"]
        # a step that does not end is no less broken, and counted like that
        bug.write_text("hang")
        after, failed = await answer(loop, "s3")
        assert (after.status, after.output) == ("completed", before.output)
        assert failed == ["engine_broken"]
    assert (await DeadLetters(bus, loop.client.tenant).list()).letters == ()


async def test_a_prompt_that_breaks_every_engine_ends_its_own_task_alone(
    loop: Loop, bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with workers(nats_server, tmp_path) as workers_:
        bug = workers_.start("w1")
        before, _ = await answer(loop, "s1")
        bug.write_text("for ever")
        hopeless, failed = await answer(loop, "s2")
        assert hopeless.error is not None
        assert (hopeless.status, hopeless.error.code) == ("failed", "engine_broken")
        assert failed == ["engine_broken"] * 3 + ["route_exhausted"]
        bug.unlink()
        healed, _ = await answer(loop, "s3")
        assert healed.output == before.output
    dead = await DeadLetters(bus, loop.client.tenant).list()
    assert [(one.session, one.letter.error.code) for one in dead.letters] == [
        ("s2", "route_exhausted")
    ]


async def test_another_worker_goes_on_meanwhile(
    loop: Loop, nats_server: NatsServer, tmp_path: Path
) -> None:
    async with workers(nats_server, tmp_path) as workers_:
        bug = workers_.start("w1")
        before, _ = await answer(loop, "s1")
        workers_.start("w2")
        await until(lambda: len([c for c in workers_.changes if c.state == "running"]) == 2)
        bug.write_text("for ever")
        for n in range(4):
            done, failed = await answer(loop, f"t{n}")
            assert (done.status, done.output) == ("completed", before.output)
            assert len(failed) < 3


async def test_a_worker_that_loads_ends_at_once(nats_server: NatsServer, tmp_path: Path) -> None:
    """In order, and not by the kill that follows where one does not come to its end."""
    build_tiny_model(tmp_path / "tiny")
    (bug := tmp_path / "bug").write_text("load")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.breaking_worker"),
        env=worker_environment(nats_server)
        | {"MILLRACE_DATA": str(tmp_path), "MILLRACE_WORKER_ID": "w1"},
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: not bug.exists(), WITHIN)
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), WITHIN)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"event=service.stopped" in said
