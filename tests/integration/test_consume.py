"""What becomes of a message: acknowledged, tried again, buried or handed back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import pytest

from shared.bus import topology
from shared.bus.connect import Bus, open_bus
from shared.bus.consume import Consuming
from shared.bus.edge import make_broker, subscribe
from shared.contracts.base import Message
from shared.contracts.facts import ToolDone, ToolFailed
from shared.contracts.work import RunTool
from shared.errors import Permanent, Transient
from shared.telemetry import configure
from tests.integration.broker_process import NatsServer
from tests.integration.jobs import (
    ORDERS,
    Probe,
    done,
    facts,
    forever,
    letters,
    order,
    pending,
    row,
)
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
Start = Callable[[Probe, int], AbstractAsyncContextManager[None]]


@pytest.fixture(params=["consuming", "edge"])
def start(request: pytest.FixtureRequest, nats_server: NatsServer) -> Start:
    """Starts a job, by our own pull or as a FastStream application."""

    @asynccontextmanager
    async def consuming(probe: Probe, concurrency: int = 8) -> AsyncIterator[None]:
        one = Consuming(probe.bus, probe.job(), concurrency)
        await one.start()
        try:
            yield
        finally:
            await one.stop(grace=0.1)

    @asynccontextmanager
    async def edge(probe: Probe, concurrency: int = 8) -> AsyncIterator[None]:
        broker = make_broker(nats_server.address(), "edge")
        subscribe(broker, probe.bus, probe.job(), concurrency)
        async with broker:
            await broker.start()
            yield

    return consuming if request.param == "consuming" else edge


async def succeed(work: RunTool, _try: int) -> Sequence[Message]:
    return [done(work)]


async def test_what_succeeds_is_published_and_acknowledged(bus: Bus, start: Start) -> None:
    probe = Probe(bus, succeed)
    async with start(probe, 8):
        await order(bus, 0, 1, 2)
        await until(lambda: settled(bus))
    assert sorted(fact.fact.step for fact in await facts(bus)) == [0, 1, 2]
    assert probe.tries(0) == probe.tries(1) == probe.tries(2) == 1


async def settled(bus: Bus) -> bool:
    return await pending(bus) == 0


async def test_a_transient_failure_is_tried_again_ever_later_and_then_buried(
    bus: Bus, start: Start
) -> None:
    async def away(_work: RunTool, _try: int) -> Sequence[Message]:
        raise Transient("away", "for now")

    probe = Probe(bus, away, row(max_deliver=3))
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    first, second, third = probe.began[0]
    assert 0.19 < second - first < third - second
    [fact] = await facts(bus)
    assert isinstance(fact.fact, ToolFailed)
    assert fact.fact.error.code == "away"
    [letter] = await letters(bus)
    assert (letter.error.code, letter.deliveries, letter.consumer) == ("away", 3, "probe")


async def test_a_transient_failure_may_say_when_to_try_again(bus: Bus, start: Start) -> None:
    async def busy(work: RunTool, attempt: int) -> Sequence[Message]:
        if attempt == 1:
            raise Transient("busy", retry_after=0.05)
        return [done(work)]

    probe = Probe(bus, busy)
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    first, second = probe.began[0]
    assert second - first < 0.19


async def test_a_permanent_failure_is_buried_at_once(bus: Bus, start: Start) -> None:
    async def never(_work: RunTool, _try: int) -> Sequence[Message]:
        raise Permanent("no_such_thing")

    probe = Probe(bus, never)
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    assert probe.tries() == 1
    assert [fact.kind for fact in await facts(bus)] == ["tool_failed"]
    assert [letter.error.code for letter in await letters(bus)] == ["no_such_thing"]


@pytest.mark.parametrize(
    ("body", "kept"),
    [(b"no json", "no json"), (b'{"step": "x"}', '{"step": "x"}'), (b"\xff\xfe", "base64://4=")],
)
async def test_what_cannot_be_read_is_buried_with_its_body(
    bus: Bus, start: Start, body: bytes, kept: str
) -> None:
    probe = Probe(bus, succeed)
    async with start(probe, 8):
        await bus.publish(ORDERS, body, {"X-Origin": "test"})
        await until(lambda: settled(bus))
    [letter] = await letters(bus)
    assert (letter.body, letter.error.code) == (kept, "invalid_message")
    assert letter.headers["X-Origin"] == "test"
    assert probe.began == {}


async def test_a_body_that_does_not_fit_into_a_letter_is_cut(bus: Bus, start: Start) -> None:
    body = b"\x01" * 900_000  # quoted, each of them takes six bytes
    async with start(Probe(bus, succeed), 8):
        await bus.publish(ORDERS, body)
        await until(lambda: settled(bus))
    [letter] = await letters(bus)
    assert letter.body.startswith("\x01\x01")
    assert len(letter.body) < 200_000


async def test_a_bug_is_retried_and_bounded(bus: Bus, start: Start) -> None:
    async def bug(_work: RunTool, _try: int) -> Sequence[Message]:
        raise ZeroDivisionError

    probe = Probe(bus, bug, row(max_deliver=2))
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    assert probe.tries() == 2
    [fact] = await facts(bus)
    assert isinstance(fact.fact, ToolFailed)
    assert fact.fact.error.family == "broken"


async def test_a_long_handler_is_not_started_twice(bus: Bus, start: Start) -> None:
    async def long(work: RunTool, _try: int) -> Sequence[Message]:
        await asyncio.sleep(3.5)
        return [done(work)]

    probe = Probe(bus, long, row(ack_wait=2.5))  # a second's stall costs no beat
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    assert probe.tries() == 1


async def test_a_crash_between_publishing_and_acknowledging_stores_nothing_twice(
    bus: Bus, start: Start
) -> None:
    crashes = iter([True, False])

    async def crash() -> None:
        if next(crashes):
            raise ConnectionResetError  # the first try dies after its fact was stored

    probe = Probe(bus, succeed, emitted=crash)
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
    assert probe.tries() == 2
    assert len(await facts(bus)) == 1


async def test_no_more_run_at_a_time_than_allowed_and_a_slow_one_delays_nobody(
    bus: Bus, start: Start
) -> None:
    running, most, release = 0, 0, asyncio.Event()

    async def count(work: RunTool, _try: int) -> Sequence[Message]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await (release.wait() if work.step == 0 else asyncio.sleep(0.005))
        running -= 1
        return [done(work)]

    async with start(Probe(bus, count), 3):
        await order(bus, *range(20))
        await until(lambda: left(bus, 1))  # all but the slow one
        release.set()
        await until(lambda: settled(bus))
    assert most == 3


async def test_what_waits_for_a_free_place_is_not_delivered_yet(bus: Bus, start: Start) -> None:
    async def slow(work: RunTool, _try: int) -> Sequence[Message]:
        await asyncio.sleep(0.4)
        return [done(work)]

    probe = Probe(bus, slow, row(ack_wait=1.5))  # a message in a queue of ours would come again
    async with start(probe, 2):
        await order(bus, *range(10))
        await until(lambda: settled(bus))
    assert [probe.tries(step) for step in range(10)] == [1] * 10


async def left(bus: Bus, count: int) -> bool:
    return await pending(bus) == count


async def test_stopping_hands_back_what_is_not_finished(bus: Bus) -> None:
    async def hang(_work: RunTool, _try: int) -> Sequence[Message]:
        await forever()
        return ()

    probe = Probe(bus, hang, row(ack_wait=30.0))
    first = Consuming(bus, probe.job(), 4)
    await first.start()
    await order(bus)
    await until(lambda: probe.tries() == 1)
    await first.stop(grace=0.05)
    probe.handle = succeed
    second = Consuming(bus, probe.job(), 4)
    await second.start()
    await until(lambda: settled(bus), within=20)  # long before the acknowledgement is overdue
    await second.stop()
    assert [type(fact.fact) for fact in await facts(bus)] == [ToolDone]


async def test_a_message_whose_last_reader_died_is_buried(
    bus: Bus, nats_server: NatsServer
) -> None:
    async def hang(_work: RunTool, _try: int) -> Sequence[Message]:
        await forever()
        return ()

    consumer = row(ack_wait=0.3, max_deliver=1)
    async with open_bus(nats_server.address(), "dies", configure("test", "critical")) as other:
        probe = Probe(other, hang, consumer)
        dying = Consuming(other, probe.job(), 4)
        await dying.start()
        await order(bus)
        await until(lambda: probe.tries() == 1)
        await other.nc.close()  # no goodbye: as after SIGKILL
        await dying.stop(grace=0.0)
    survivor = Probe(bus, succeed, consumer)
    living = Consuming(bus, survivor.job(), 4)
    await living.start()
    await until(lambda: settled(bus))
    await living.stop()
    assert survivor.tries() == 0
    assert [letter.error.code for letter in await letters(bus)] == ["tries_exhausted"]
    assert [fact.kind for fact in await facts(bus)] == ["tool_failed"]


async def test_it_goes_on_when_its_consumer_is_deleted(bus: Bus, start: Start) -> None:
    probe = Probe(bus, succeed)
    async with start(probe, 8):
        await order(bus, 0)  # from here on it surely asks for messages
        await until(lambda: settled(bus))
        await bus.api(f"CONSUMER.DELETE.WORK.{probe.consumer.name}")
        await order(bus, 1)
        await until(lambda: settled(bus))
    assert len(await facts(bus)) == 2


async def test_it_goes_on_when_the_server_has_lost_its_memory(
    bus: Bus, start: Start, nats_server: NatsServer
) -> None:
    probe = Probe(bus, succeed)
    async with start(probe, 8):
        await order(bus)
        await until(lambda: settled(bus))
        await asyncio.to_thread(nats_server.restart)
        await until(lambda: stored(bus))
        await until(lambda: probe.tries(1) == 1)
    assert len(await facts(bus)) == 2


async def stored(bus: Bus) -> bool:
    """The stream is in memory: it takes orders again once somebody has created it anew."""
    try:
        await order(bus, 1)
    except Transient:
        return False
    return True


async def test_it_waits_until_nobody_else_reads_its_subject(bus: Bus) -> None:
    rival = replace(row(), name="rival")
    await topology.ensure_consumer(bus, rival)
    consuming = Consuming(bus, Probe(bus, succeed).job(), 1)
    await consuming.start()
    await order(bus)
    await topology.delete_consumer(bus, rival)
    await until(lambda: settled(bus))
    await consuming.stop()
    assert len(await facts(bus)) == 1
