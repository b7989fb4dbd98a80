"""A cluster of three: what was written is read at once, a unique fact is stored once, a lost server
changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.local.child import Change
from infra.local.supervisor import Supervisor
from services.router.adapters.queues import Queues
from services.sessions.adapters.asks import Asks
from shared.bus.batches import Entry, append_all
from shared.bus.connect import Bus, open_bus
from shared.bus.log import RunLog
from shared.contracts.asks import ReadStored
from shared.contracts.base import SessionRef
from shared.contracts.facts import Completed, Done, ToolDone, Usage
from shared.metrics.catalogue import STREAM_COPIES, STREAM_COPIES_CURRENT, STREAM_LEADER
from shared.settings import Address
from shared.subjects import BUCKETS, CONSUMERS, DIRECT_SESSION, RUNS, STREAMS, session_filter
from shared.telemetry import configure
from tests.chaos.brokers import Broker, leader_of
from tests.fakes.counted import value
from tests.integration.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
LOG = configure("test", "critical")
REF = SessionRef("default", "s1")
BILLS = SessionRef("default", DIRECT_SESSION)


class Cluster:
    """Three servers and where their processes are."""

    def __init__(self, data: Path) -> None:
        self.broker = Broker(data, size=3, sync="1s")
        self.pids: dict[str, int] = {}
        self.supervisor = Supervisor(data, self._changed)

    def _changed(self, change: Change) -> None:
        self.pids[change.name] = change.pid

    def connect(self, n: int) -> Address:
        """One server alone, so that it is the one that answers."""
        whole = self.broker.address
        return Address(whole.servers[n], whole.token, None, whole.replicas)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    found = Cluster(tmp_path)
    try:
        await found.broker.start(found.supervisor)
        yield found
    finally:
        await found.broker.end()
        await found.supervisor.stop()


def result(step: int) -> ToolDone:
    return ToolDone(task="t", step=step, call="c", name="x", result=str(step))


async def test_three_servers_hold_everything(cluster: Cluster) -> None:
    async with open_bus(cluster.broker.address, "test", LOG) as bus:
        names = [row.name for row in STREAMS] + [f"KV_{row.name}" for row in BUCKETS]
        for name in names:
            info = await bus.api(f"STREAM.INFO.{name}")
            assert info["config"]["num_replicas"] == 3, name
        for row in CONSUMERS:
            info = await bus.api(f"CONSUMER.INFO.{row.stream}.{row.name}")
            assert len(info["cluster"]["replicas"]) == 2, row.name
    await _what_one_wrote_another_reads(cluster)
    await _one_done(cluster)
    await _a_batch_is_stored_once(cluster)
    await _the_router_sees_all_copies(cluster)
    await _the_leader_dies(cluster)


async def _what_one_wrote_another_reads(cluster: Cluster) -> None:
    async with (
        open_bus(cluster.connect(0), "test", LOG) as a,
        open_bus(cluster.connect(1), "test", LOG) as b,
        open_bus(cluster.connect(2), "test", LOG) as c,
    ):
        buses: list[Bus] = [a, b, c]
        asked = ReadStored(subject=session_filter(REF), limit=250)
        for step in range(60):
            ack = await RunLog(buses[step % 3]).append(REF, result(step))
            for bus in buses:
                assert (await RunLog(bus).read(REF))[-1].seq == ack.seq
                page = await Asks(bus, RunLog(bus)).read(REF.tenant, asked)
                assert page.messages[-1].sequence == ack.seq


async def _one_done(cluster: Cluster) -> None:
    async with (
        open_bus(cluster.connect(0), "test", LOG) as a,
        open_bus(cluster.connect(1), "test", LOG) as b,
    ):
        for n in range(20):
            facts = [Done(task=f"d{n}", status="completed", output=str(k)) for k in range(6)]
            acks = await asyncio.gather(
                *(RunLog(bus).append(REF, fact) for fact in facts for bus in (a, b))
            )
            assert len({ack.seq for ack in acks}) == 1
            assert sum(not ack.duplicate for ack in acks) == 1


def names(n: int) -> list[str]:
    return [f"c{n}-{one:02}" for one in range(20)]


def bill(n: int) -> list[Entry]:
    usage = Usage(output=1)
    facts = [Completed(id=name, model="m", worker="w", usage=usage) for name in names(n)]
    return [Entry(BILLS, fact) for fact in facts]


async def billed(bus: Bus) -> list[str]:
    facts = (stored.fact for stored in await RunLog(bus).read(BILLS))
    return sorted(fact.id for fact in facts if isinstance(fact, Completed))


async def _a_batch_is_stored_once(cluster: Cluster) -> None:
    """Also where two servers are given it at once."""
    async with (
        open_bus(cluster.connect(0), "test", LOG) as a,
        open_bus(cluster.connect(1), "test", LOG) as b,
    ):
        for n in range(5):
            await asyncio.gather(append_all(a, bill(n)), append_all(b, bill(n)))
        assert await billed(a) == [name for n in range(5) for name in names(n)]


async def _the_router_sees_all_copies(cluster: Cluster) -> None:
    async with open_bus(cluster.broker.address, "test", LOG) as bus:

        async def complete() -> bool:
            await Queues(bus).look()
            return value(STREAM_COPIES_CURRENT, RUNS) == 3

        await until(complete, within=60, every=0.2)
        assert value(STREAM_COPIES, RUNS) == 3
        assert value(STREAM_LEADER, RUNS, await leader_of(cluster.broker, RUNS)) == 1
        assert len([one for (stream, _), one in STREAM_LEADER.found() if stream == RUNS]) == 1


async def _the_leader_dies(cluster: Cluster) -> None:
    async with open_bus(cluster.broker.address, "test", LOG) as bus:
        before = {fact.seq for fact in await RunLog(bus).read(REF)}
        batch = asyncio.create_task(append_all(bus, bill(9)))
        os.kill(cluster.pids[await leader_of(cluster.broker, RUNS)], signal.SIGKILL)
        after = await RunLog(bus).append(REF, result(1000))
        assert {fact.seq for fact in await RunLog(bus).read(REF)} == before | {after.seq}
        await batch
        assert await billed(bus) == [name for n in (0, 1, 2, 3, 4, 9) for name in names(n)]
