"""Whatever nobody could process ends as one dead letter, and whoever waits for it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import nats.errors
import orjson
import pytest

from services.sessions.adapters.owner import Owner
from services.sessions.adapters.snapshots import SessionLog
from services.sessions.adapters.undertaker import Undertaker
from services.sessions.handlers import Sessions
from shared import clock
from shared.bus import topology
from shared.bus.connect import Bus
from shared.bus.consume import Consuming
from shared.bus.log import RunLog
from shared.client import Millrace
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import Message, encode
from shared.contracts.dead import DeadLetter
from shared.contracts.facts import Accepted, Done, InferFailed, Inferred, ToolCall, ToolFailed
from shared.contracts.work import InferStep, RouteStep, RunTool, Target
from shared.errors import Permanent, Transient
from shared.subjects import (
    FIRED,
    RUNS,
    TIMERS,
    WORK,
    Consumer,
    fired_subject,
    infer_subject,
    sessions_consumer,
    tool_subject,
)
from tests.integration.jobs import ORDERS, REF, Probe, letters, order, pending, row
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
CALL = ToolCall(id="c1", name="shout", arguments="{}")
ROUTE = RouteStep(ref=REF, task="t1", step=0, route="default", seq=1, sampling=Sampling())


@pytest.fixture
async def undertaker(bus: Bus) -> AsyncIterator[Undertaker]:
    one = Undertaker(bus)
    await one.start()
    yield one
    await one.stop()


async def accepted(bus: Bus) -> None:
    """A task that waits for a model call, its step 0."""
    fact = Accepted(
        task="t1", agent=AgentSpec(name="a"), revision=1, limits=Limits(), sampling=Sampling(),
        deadline=0.0, source=1,
    )  # fmt: skip
    await RunLog(bus).append(REF, fact)


async def called(bus: Bus) -> None:
    """A task that waits for a tool, its step 1."""
    await accepted(bus)
    await RunLog(bus).append(REF, Inferred(task="t1", step=0, tool_calls=(CALL,)))


async def last(bus: Bus) -> object:
    return (await RunLog(bus).read(REF))[-1].fact


async def notice(bus: Bus, consumer: str, stream: str, seq: int, time: str = "2999") -> None:
    """What the server says when a message was delivered for the last time in vain."""
    body = {
        "type": "io.nats.jetstream.advisory.v1.max_deliver", "stream": stream,
        "timestamp": f"{time}-01-01T00:00:00.123456789Z", "consumer": consumer,
        "stream_seq": seq, "deliveries": 8,
    }  # fmt: skip
    subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
    await bus.publish(subject, orjson.dumps(body))


async def one_letter(bus: Bus) -> DeadLetter:
    await until(lambda: letters(bus))
    [letter] = await letters(bus)
    return letter


async def empty(bus: Bus) -> bool:
    return await pending(bus) == 0


async def test_a_message_that_killed_all_its_readers_gets_its_letter(
    bus: Bus, undertaker: Undertaker
) -> None:
    await called(bus)
    consumer = row(ack_wait=0.2, max_deliver=1)
    await topology.ensure_consumer(bus, consumer)
    await order(bus, 1)
    reader = await bus.nc.jetstream().pull_subscribe_bind(consumer.name, stream=WORK)
    for _ in range(1 + topology.BURIALS):  # nobody answers, as after SIGKILL
        await reader.fetch(1, timeout=20)
    with pytest.raises(nats.errors.TimeoutError):
        await reader.fetch(1, timeout=0.5)
    await reader.unsubscribe()
    letter = await one_letter(bus)
    assert (letter.error.code, letter.consumer) == ("tries_exhausted", "probe")
    assert (letter.subject, letter.headers["Nats-Msg-Id"]) == (ORDERS, "order-1")
    assert orjson.loads(letter.body)["step"] == 1
    await until(lambda: empty(bus))
    failed = await last(bus)
    assert isinstance(failed, ToolFailed)
    assert (failed.call, failed.name, failed.error.code) == ("c1", "shout", "tries_exhausted")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("lane", ["router", "infer", "tools"])
async def test_the_step_of_a_message_that_died_fails(
    bus: Bus, undertaker: Undertaker, lane: str, whole: bool
) -> None:
    step = int(lane == "tools")
    await (called if step else accepted)(bus)
    tool = RunTool(ref=REF, task="t1", step=1, call="c1", name="shout", arguments="{}")
    subject, work = {
        "router": ("work.route", ROUTE),
        "infer": (infer_subject("nano", "w1"), InferStep(route=ROUTE, target=Target(model="m"))),
        "tools": (tool_subject("shout"), tool),
    }[lane]
    headers = {} if whole else {"Nats-Msg-Id": f"{REF}/t1.{step}/work"}
    ack = await bus.publish(subject, encode(work) if whole else b"\xff{", headers)
    await notice(bus, lane, WORK, ack.seq)
    await until(lambda: empty(bus))
    failed = await last(bus)
    assert isinstance(failed, ToolFailed if step else InferFailed)
    assert (failed.step, failed.error.code) == (step, "tries_exhausted")
    assert (await one_letter(bus)).error == failed.error


async def test_a_step_that_has_a_result_is_left_alone(bus: Bus, undertaker: Undertaker) -> None:
    await called(bus)
    ack = await bus.publish("work.route", encode(ROUTE))
    await notice(bus, "router", WORK, ack.seq)
    await until(lambda: empty(bus))
    assert isinstance(await last(bus), Inferred)


async def test_the_task_of_a_timer_that_cannot_be_handled_fails(
    bus: Bus, undertaker: Undertaker
) -> None:
    await accepted(bus)
    ack = await bus.publish(fired_subject(REF, "t1", "deadline"), b"{}")
    await notice(bus, FIRED.name, TIMERS, ack.seq)
    await until(lambda: letters(bus))
    await until(lambda: ended(bus))


async def ended(bus: Bus) -> bool:
    fact = await last(bus)
    return isinstance(fact, Done) and fact.status == "failed"


async def test_what_is_buried_and_noticed_has_one_letter_with_its_tries(
    bus: Bus, undertaker: Undertaker
) -> None:
    async def away(_work: RunTool, attempt: int) -> Sequence[Message]:
        raise Transient(f"away-{attempt}", retry_after=0.01)

    consuming = Consuming(bus, Probe(bus, away, row(max_deliver=3)).job(), 4)
    await consuming.start()
    await order(bus)
    await until(lambda: noticed(bus, "MSG_TERMINATED"))
    await until(lambda: quiet(bus))
    letter = await one_letter(bus)
    assert [(one.delivery, one.error.code) for one in letter.tries] == [
        (1, "away-1"),
        (2, "away-2"),
    ]
    assert (letter.error.code, letter.deliveries, letter.original) == ("away-3", 3, "whole")
    assert letter.tries[0].time <= letter.tries[1].time
    await consuming.stop()


async def noticed(bus: Bus, kind: str) -> bool:
    """Whether the server has said so."""
    found = await bus.api("STREAM.INFO.DEAD", {"subjects_filter": f"$JS.EVENT.*.*.{kind}.>"})
    return bool(found["state"].get("subjects"))


async def quiet(bus: Bus) -> bool:
    """Whether the undertaker has dealt with all of DEAD."""
    info = await bus.api("CONSUMER.INFO.DEAD.undertaker")
    return not info["num_pending"] and not info["num_ack_pending"]


async def test_what_somebody_else_ended_is_noted_without_its_body(
    bus: Bus, undertaker: Undertaker
) -> None:
    consumer = row()
    await topology.ensure_consumer(bus, consumer)
    await order(bus)
    reader = await bus.nc.jetstream().pull_subscribe_bind(consumer.name, stream=WORK)
    [message] = await reader.fetch(1)
    await message.term()
    await reader.unsubscribe()
    letter = await one_letter(bus)
    assert (letter.error.code, letter.original, letter.body) == ("terminated", "gone", "")
    assert (letter.stream, letter.sequence) == (WORK, 1)
    with pytest.raises(Permanent) as refused:
        await retry_only(bus)
    assert refused.value.code == "original_gone"


async def retry_only(bus: Bus) -> None:
    dead = Millrace(bus).dead(everyone=True)
    [filed] = (await dead.list()).letters
    await dead.retry(filed.id)


async def test_a_later_message_at_the_same_place_is_not_taken_for_it(
    bus: Bus, undertaker: Undertaker
) -> None:
    """A stream in memory counts from 1 again when its server has restarted."""
    await accepted(bus)
    ack = await bus.publish("work.route", encode(ROUTE))
    await notice(bus, "router", WORK, ack.seq, time="2001")
    assert (await one_letter(bus)).original == "gone"
    await until(lambda: quiet(bus))
    assert isinstance(await last(bus), Accepted)
    assert await pending(bus) == 1


async def test_the_undertaker_does_not_bury_what_buried_it(
    bus: Bus, undertaker: Undertaker
) -> None:
    await notice(bus, "undertaker", "DEAD", 1)
    await notice(bus, "somebody", "THEIRS", 1)
    await until(lambda: quiet(bus))
    assert await letters(bus) == []


@pytest.mark.parametrize("subject", ["dead.x", "dead.a.b.c.WORK.1.2"])
async def test_what_is_no_letter_becomes_one(
    bus: Bus, undertaker: Undertaker, subject: str
) -> None:
    await bus.publish(subject, b"no letter")
    letter = await one_letter(bus)
    assert (letter.subject, letter.body, letter.consumer) == (subject, "no letter", "undertaker")
    await until(lambda: quiet(bus))


@pytest.mark.parametrize("subject", ["tasks.default.a.*", "tasks.default.a.>", "tasks.*.a.s"])
async def test_a_task_whose_name_is_a_wildcard_is_buried(
    bus: Bus, undertaker: Undertaker, subject: str
) -> None:
    """The server stores it as it is, because it fits none of our subjects."""
    await bus.publish(subject, b'{"input": "x"}')
    letter = await one_letter(bus)
    assert (letter.subject, letter.error.code, letter.stream) == (subject, "invalid_name", RUNS)


class Unreadable:
    """An agent catalog with a bug: whatever is decided fails, for ever."""

    def of(self, tenant: str) -> dict[str, tuple[int, AgentSpec]]:
        raise ZeroDivisionError(tenant)


def impatient(partition: int) -> Consumer:
    return replace(sessions_consumer(partition), ack_wait=0.2)


async def test_a_fact_that_the_loop_cannot_get_over_is_buried(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sessions.adapters.partition.sessions_consumer", impatient)

    class Nothing:
        async def perform(self, *_: object) -> int:
            return 0

        async def submit(self, *_: object) -> int:
            return 0

    sessions = Sessions(SessionLog(bus), Nothing(), Unreadable(), clock.now, bus.log)
    owner = Owner(bus, sessions)
    await owner.start()
    task = await Millrace(bus).submit("helper", "say x", session="s1")
    done = await task.result(40)
    assert done.error
    assert (done.status, done.error.code) == ("failed", "tries_exhausted")
    found = await Millrace(bus).dead().list()
    filed = found.letters[0]
    assert (filed.session, filed.letter.error.code) == ("s1", "tries_exhausted")
    await owner.stop()
