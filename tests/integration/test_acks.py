"""Acknowledgements wait for the next message, but not for long, and never past the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from shared.bus import acks, topology
from shared.bus.connect import Bus, open_bus
from shared.bus.consume import Consuming
from shared.contracts.base import Message
from shared.contracts.work import RunTool
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer
from tests.integration.jobs import Probe, order, pending
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def other(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Bus]:
    """A second connection: whoever looks over the first one takes its acknowledgements along."""
    async with open_bus(nats_server.address(), "other", configure("test", "critical")) as other:
        yield other


async def nothing(_work: RunTool, _try: int) -> Sequence[Message]:
    return []


async def handled(bus: Bus, other: Bus, count: int) -> Consuming[RunTool]:
    """A consumer that has just dealt with so many messages."""
    probe = Probe(bus, nothing)
    consuming = Consuming(bus, probe.job(), 64)
    await topology.ensure_consumer(bus, probe.consumer)
    await consuming.start()
    await order(other, *range(count))
    await until(lambda: len(probe.began) == count)
    return consuming


@pytest.mark.parametrize("count", [1, 12])
async def test_where_nothing_else_is_sent_they_go_alone(bus: Bus, other: Bus, count: int) -> None:
    consuming = await handled(bus, other, count)
    await until(lambda: gone(other), within=5.0)
    await consuming.stop()


async def gone(bus: Bus) -> bool:
    return await pending(bus) == 0


async def test_they_go_with_the_next_message(
    bus: Bus, other: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "LATEST", 600.0)
    consuming = await handled(bus, other, 3)
    assert await pending(other) == 3
    await bus.arrived()
    assert await gone(other)
    await consuming.stop()


async def test_they_go_in_one_write(bus: Bus, other: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acks, "LATEST", 600.0)
    consuming = await handled(bus, other, 3)
    transport, written = bus.nc._transport, list[bytes]()
    real = transport.writelines

    def writelines(lines: list[bytes]) -> None:
        written.append(b"".join(lines))
        real(lines)

    monkeypatch.setattr(transport, "writelines", writelines)
    await bus.arrived()
    assert len(written) == 1
    assert written[0].count(b"$JS.ACK.WORK.probe.") == 3
    await consuming.stop()


async def test_whoever_stops_leaves_none_behind(
    bus: Bus, other: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "LATEST", 600.0)
    await (await handled(bus, other, 3)).stop()
    await until(lambda: gone(other), within=5.0)


async def test_whoever_closes_the_connection_leaves_none_behind(
    nats_server: NatsServer, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acks, "LATEST", 600.0)
    async with open_bus(nats_server.address(), "short", configure("test", "critical")) as short:
        await handled(short, bus, 3)
        assert await pending(bus) == 3
    await until(lambda: gone(bus), within=5.0)


async def test_without_a_server_nobody_hears_of_it(bus: Bus, other: Bus) -> None:
    """The messages come again; that they could not be acknowledged is no error of anybody's."""
    consuming = await handled(bus, other, 1)
    await consuming.stop()
    await bus.nc.close()
    message = await other.stored("$JS.API.DIRECT.GET.WORK", b'{"last_by_subj":"x"}')
    message.reply, message._client = "gone", bus.nc
    bus.acks.give(message)
    await bus.acks.flush()
    await asyncio.sleep(2 * acks.LATEST)
