"""Work that waits on a real broker, and an ingress that takes no more of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.ingress.adapters.admission import AdmittedCompletions, AdmittedTasks, Gate
from services.ingress.adapters.bus import BusCompletions, Link
from services.ingress.core.tasks.state import Order
from shared.bus import topology
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.client import Millrace
from shared.contracts.base import SessionRef, encode
from shared.contracts.work import ChatMessage, DirectRequest
from shared.contracts.workers import WorkerState
from shared.errors import Transient
from shared.subjects import ROUTE, WORKERS, infer_consumer, infer_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
ORDER = Order(ref=SessionRef("default", "s1"), task="t1", agent="helper", input="x")
ASKED = DirectRequest(
    id="c1", tenant="default", model="nano", messages=(ChatMessage(role="user", content="x"),)
)


@pytest.fixture
async def link(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Link]:
    found = Link(LOG)
    async with found.open(nats_server.address):

        def connected() -> bool:
            try:
                found.client()
            except Transient:
                return False
            return True

        await until(connected)
        yield found


async def wait_in_line(bus: Bus, calls: int) -> None:
    """A worker with two slots and its lane, which nobody reads."""
    state = WorkerState(worker="w1", model="nano", engine="none", slots=2, running=2)
    await KeyValue(bus, WORKERS).put("w1", encode(state))
    await topology.ensure_consumer(bus, infer_consumer("nano", "w1"))
    for _ in range(calls):
        await bus.publish(infer_subject("nano", "w1"), b"{}")
    await bus.publish(ROUTE, b"{}")


async def test_more_than_the_bound_is_refused_until_the_queue_is_shorter(
    link: Link, bus: Bus
) -> None:
    gate = Gate(link, bound=10, log=LOG)
    tasks = AdmittedTasks(link, gate)
    completions = AdmittedCompletions(BusCompletions(link), gate)
    await gate.look()
    await tasks.submit(ORDER, "")
    await wait_in_line(bus, 11)
    assert (await gate.look()).waiting == 10
    with pytest.raises(Transient) as refused:
        await tasks.submit(ORDER, "")
    assert refused.value.code == "queue_full"
    assert refused.value.as_failure().retry_after == 10
    with pytest.raises(Transient):
        completions.complete(ASKED)
    assert len(await Millrace(bus).session("s1").history()) == 1, "nothing of it was stored"
    await bus.api("STREAM.PURGE.WORK")
    await gate.look()
    gate.check()


async def test_without_a_bound_or_a_look_nobody_is_refused(link: Link, bus: Bus) -> None:
    await wait_in_line(bus, 30)
    gate = Gate(link, bound=0, log=LOG)
    await gate.look()
    gate.check()
    Gate(link, bound=1, log=LOG).check()


async def test_a_running_gate_looks_by_itself(link: Link, bus: Bus) -> None:
    await wait_in_line(bus, 30)
    gate = Gate(link, bound=5, log=LOG)

    def full() -> bool:
        try:
            gate.check()
        except Transient:
            return True
        return False

    async with gate.open():
        await until(full)
