"""What the server has acknowledged is there after its process was killed, writers going on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Done, ToolDone
from shared.contracts.log import MSG_ID
from shared.contracts.tasks import TaskSubmitted
from shared.errors import Transient
from shared.subjects import task_subject
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
WRITERS, KILLS = 24, 3


async def _write(bus: Bus, ref: SessionRef, kept: list[tuple[SessionRef, int]]) -> None:
    """Append facts, noting each sequence that was acknowledged."""
    log = RunLog(bus)
    step = 0
    while True:
        fact = ToolDone(task="t", step=step, call="c", name="x", result=f"{ref}/{step}")
        try:
            ack = await log.append(ref, fact, patience=0.5)
        except Transient:
            await asyncio.sleep(0.02)  # it may be stored or not: the same fact again
            continue
        kept.append((ref, ack.seq))
        step += 1


async def test_acknowledged_facts_survive_the_servers_death(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    kept: list[tuple[SessionRef, int]] = []
    try:
        async with open_bus(server.address(), "test", configure("test", "critical")) as bus:
            await topology.ensure(bus)
            refs = [SessionRef("default", f"s{n}") for n in range(WRITERS)]
            writers = [asyncio.create_task(_write(bus, ref, kept)) for ref in refs]
            for _ in range(KILLS):
                await asyncio.sleep(0.6)
                server.kill()
                server.start()
            await asyncio.sleep(0.6)
            for writer in writers:
                writer.cancel()
            await asyncio.gather(*writers, return_exceptions=True)
            for ref in refs:
                await _nothing_missing(bus, ref, [seq for one, seq in kept if one == ref])
    finally:
        server.kill()
    assert len(kept) > WRITERS * KILLS


async def _nothing_missing(bus: Bus, ref: SessionRef, acknowledged: list[int]) -> None:
    stored = await RunLog(bus).read(ref)
    assert set(acknowledged) <= {fact.seq for fact in stored}
    steps = [fact.fact.step for fact in stored if isinstance(fact.fact, ToolDone)]
    assert steps == list(range(len(steps)))  # none lost, none twice, in order


async def test_what_is_unique_and_known_ids_survive_it_too(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    server.start()
    ref = SessionRef("default", "s1")
    try:
        async with open_bus(server.address(), "test", configure("test", "critical")) as bus:
            await topology.ensure(bus)
            submitted = encode(TaskSubmitted(input="hello"))
            headers = {MSG_ID: "m1"}
            first = await bus.publish(task_subject(ref, "plain"), submitted, headers)
            done = await RunLog(bus).append(ref, Done(task="t", status="completed", output="a"))
            server.restart()
            again = await RunLog(bus).append(ref, Done(task="t", status="failed"))
            repeated = await bus.publish(task_subject(ref, "plain"), submitted, headers, 10.0)
    finally:
        server.kill()
    assert (again.seq, again.duplicate) == (done.seq, True)
    assert (repeated.seq, repeated.duplicate) == (first.seq, True)
