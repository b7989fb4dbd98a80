"""The client's verbs over the bus: what sessions is asked, and what its answers become."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.msg import Msg

from shared.bus.connect import Bus
from shared.client import Millrace, Task
from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.control import (
    ApproveStep,
    CancelTask,
    ControlReply,
    RejectStep,
    RetryTask,
    SteerTask,
)
from shared.errors import Failure, Permanent, Transient

pytestmark = pytest.mark.integration
KINDS: dict[str, type[Message]] = {
    "cancel": CancelTask,
    "steer": SteerTask,
    "approve": ApproveStep,
    "reject": RejectStep,
    "retry": RetryTask,
}


class Desk:
    """Takes the requests in the place of the sessions service."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, Message]] = []
        self.reply = ControlReply(sequence=7)

    async def take(self, message: Msg) -> None:
        verb = message.subject.rpartition(".")[2]
        self.orders.append((message.subject, decode(message.data, KINDS[verb])))
        await message.respond(encode(self.reply))


@pytest.fixture
async def desk(bus: Bus) -> AsyncIterator[Desk]:
    desk = Desk()
    subscription = await bus.nc.subscribe("control.*.*.*", cb=desk.take)
    yield desk
    await subscription.unsubscribe()


@pytest.fixture
def task(bus: Bus) -> Task:
    return Millrace(bus, "acme").task("t1", "s1")


async def test_each_verb_is_a_request_of_its_own(desk: Desk, task: Task) -> None:
    assert await task.cancel("kim", "enough") == 7
    assert await task.steer("in German", id="one", by="kim") == 7
    assert await task.approve(3, arguments="{}", by="kim", note="fine") == 7
    assert await task.approve(4, limits=LimitsPatch(max_steps=50)) == 7
    assert await task.approve(3, result="done") == 7
    assert await task.reject(3, by="kim", note="no") == 7
    new = await task.retry("t2", by="kim")
    assert (new.id, new.session) == ("t2", "s1")
    at = "control.acme.s1."
    assert desk.orders == [
        (at + "cancel", CancelTask(task="t1", by="kim", reason="enough")),
        (at + "steer", SteerTask(task="t1", text="in German", id="one", by="kim")),
        (at + "approve", ApproveStep(task="t1", step=3, by="kim", note="fine", arguments="{}")),
        (at + "approve", ApproveStep(task="t1", step=4, limits=LimitsPatch(max_steps=50))),
        (at + "approve", ApproveStep(task="t1", step=3, result="done")),
        (at + "reject", RejectStep(task="t1", step=3, by="kim", note="no")),
        (at + "retry", RetryTask(task="t1", retry="t2", by="kim")),
    ]


async def test_what_is_not_named_gets_a_name_of_its_own(desk: Desk, task: Task) -> None:
    await task.steer("a")
    await task.steer("b")
    assert (await task.retry()).id != (await task.retry()).id
    said = [order.id for _, order in desk.orders if isinstance(order, SteerTask)]
    assert len(set(said)) == 2


async def test_the_step_that_waits_is_found_in_the_log(desk: Desk, task: Task, bus: Bus) -> None:
    client, ref = Millrace(bus, "acme"), SessionRef("acme", "s1")
    with pytest.raises(Permanent, match="unknown_task"):
        await task.approve()
    await client.log.append(ref, f.Inferred(task="t1", step=0))
    with pytest.raises(Permanent, match="not_parked"):
        await task.approve()
    await client.log.append(ref, f.Parked(task="t1", step=3, reason="approval"))
    await task.approve()
    await task.reject()
    await client.log.append(ref, f.Parked(task="t1", step=4, reason="approval"))
    with pytest.raises(Permanent, match="step_needed"):
        await task.reject()
    steps = [getattr(order, "step", None) for _, order in desk.orders]
    assert steps == [3, 3]


@pytest.mark.parametrize(
    "failure",
    [
        Failure(code="not_parked", detail="step 3 does not wait"),
        Failure(code="superseded", detail="a later task ran"),
        Failure(code="invalid_arguments", detail="no JSON object", field="arguments"),
        Failure(code="bus_unavailable", family="transient"),
    ],
)
async def test_a_refusal_is_raised(desk: Desk, task: Task, failure: Failure) -> None:
    desk.reply = ControlReply(error=failure)
    for request in (task.approve(3), task.retry(), task.steer("x"), task.reject(3)):
        with pytest.raises((Permanent, Transient)) as refused:
            await request
        assert refused.value.as_failure() == failure


async def test_what_cannot_be_right_is_not_sent(desk: Desk, task: Task) -> None:
    with pytest.raises(Permanent, match="invalid_text"):
        await task.steer(" ")
    with pytest.raises(Permanent, match="invalid_name"):
        await task.steer("x", id="a b")
    with pytest.raises(Permanent, match="invalid_name"):
        await task.retry("a.b")
    assert desk.orders == []


async def test_nobody_there(task: Task) -> None:
    with pytest.raises(Transient, match="no_responders"):
        await task.steer("x")
