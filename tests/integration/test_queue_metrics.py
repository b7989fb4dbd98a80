"""What the broker holds, as the router counts it; what becomes of messages, as readers count it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.router.adapters.queues import Queues
from shared.bus import topology
from shared.bus.connect import Bus
from shared.bus.consume import Consuming
from shared.contracts.base import Message
from shared.contracts.work import RunTool
from shared.errors import Permanent, Transient
from shared.metrics.catalogue import (
    DEAD_LETTERS,
    MESSAGE_SECONDS,
    MESSAGE_WAIT,
    MESSAGES,
    QUEUE_TAKEN,
    QUEUE_WAITING,
    QUEUES_SEEN,
    REDELIVERIES,
    STREAM_MESSAGES,
)
from shared.subjects import RUNS, WORK, infer_consumer, infer_subject, sessions_consumer
from tests.fakes.counted import Moved, value
from tests.integration.jobs import ORDERS, Probe, done, order, pending, row
from tests.integration.waiting import until

pytestmark = pytest.mark.integration


async def test_the_lag_of_a_queue_is_that_of_all_its_consumers(bus: Bus) -> None:
    for worker in ("w1", "w2"):
        await topology.ensure_consumer(bus, infer_consumer("nano", worker))
        await bus.publish(infer_subject("nano", worker), b"{}")
    await topology.ensure_consumer(bus, sessions_consumer(3))
    await bus.publish("run.3.default.s1.noted", b"{}")
    await Queues(bus).look()
    assert value(QUEUE_WAITING, WORK, "infer-w") == 2
    assert value(QUEUE_WAITING, RUNS, "sessions") == 1
    assert value(QUEUE_WAITING, RUNS, "ledger") == 1
    assert value(QUEUE_TAKEN, WORK, "infer-w") == 0
    assert value(STREAM_MESSAGES, WORK) == 2
    assert value(QUEUES_SEEN) > 1_700_000_000


async def test_a_queue_that_is_gone_is_not_shown_any_more(bus: Bus) -> None:
    lane = infer_consumer("nano", "w1")
    await topology.ensure_consumer(bus, lane)
    await bus.publish(infer_subject("nano", "w1"), b"{}")
    await Queues(bus).look()
    assert value(QUEUE_WAITING, WORK, "infer-w") == 1
    await topology.delete_consumer(bus, lane)
    await Queues(bus).look()
    [family] = QUEUE_WAITING.collect()
    assert "infer-w" not in {sample.labels["queue"] for sample in family.samples}


async def test_it_looks_again_and_again_and_survives_a_bad_look(bus: Bus) -> None:
    queues = Queues(bus, every=0.02)
    await bus.api(f"STREAM.DELETE.{WORK}")
    await queues.start()
    try:
        await topology.ensure(bus)
        before = value(QUEUES_SEEN)
        await until(lambda: _later(before))
    finally:
        await queues.stop()


async def _later(before: float) -> bool:
    return value(QUEUES_SEEN) > before


async def test_what_becomes_of_messages_is_counted(bus: Bus) -> None:
    async def handle(work: RunTool, tries: int) -> Sequence[Message]:
        if work.step == 1 and tries == 1:
            raise Transient("away", "for now", retry_after=0.0)
        if work.step == 2:
            raise Permanent("never", "not this")
        return [done(work)]

    moved = {name: Moved(MESSAGES, "probe", name) for name in ("done", "retried", "dead")}
    letters, again = Moved(DEAD_LETTERS, "probe"), Moved(REDELIVERIES, "probe")
    waits = Moved(MESSAGE_WAIT, "probe", part="_count")
    times = Moved(MESSAGE_SECONDS, "probe", part="_count")
    probe = Probe(bus, handle, row(max_deliver=3))
    consuming = Consuming(bus, probe.job(), 8)
    await consuming.start()
    try:
        await order(bus, 0, 1, 2)
        await until(lambda: _settled(bus))
    finally:
        await consuming.stop(grace=0.1)
    assert {name: one.by for name, one in moved.items()} == {"done": 2, "retried": 1, "dead": 1}
    assert (letters.by, again.by, waits.by, times.by) == (1, 1, 3, 2)


async def _settled(bus: Bus) -> bool:
    return await pending(bus) == 0


async def test_a_body_that_cannot_be_read_is_a_dead_letter(bus: Bus) -> None:
    async def handle(work: RunTool, _tries: int) -> Sequence[Message]:
        return [done(work)]

    dead, letters = Moved(MESSAGES, "probe", "dead"), Moved(DEAD_LETTERS, "probe")
    consuming = Consuming(bus, Probe(bus, handle).job(), 1)
    await consuming.start()
    try:
        await bus.publish(ORDERS, b"nonsense")
        await until(lambda: _settled(bus))
    finally:
        await consuming.stop(grace=0.1)
    assert (dead.by, letters.by) == (1, 1)
