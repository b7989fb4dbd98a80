"""Failures for the moment, effects, people and limits, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.bus.connect import Bus
from shared.client import Task
from shared.contracts import facts as f
from shared.contracts.agents import LimitsPatch
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.control import ApproveStep, ControlReply, RejectStep, RetryTask, SteerTask
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import RunTool
from shared.errors import Failure, Transient
from shared.subjects import control_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def ask(bus: Bus, verb: str, order: Message) -> ControlReply:
    body = await bus.request(control_subject(REF, verb), encode(order))
    return decode(body, ControlReply)


async def facts(loop: Loop, kind: type) -> list[object]:
    found = await loop.client.session("s1").history()
    return [stored.fact for stored in found if isinstance(stored.fact, kind)]


def parked(loop: Loop):
    async def look() -> bool:
        return bool(await facts(loop, f.Parked))

    return look


async def hanging(loop: Loop) -> tuple[Task, asyncio.Event]:
    """A task in the middle of a tool call that answers `done` once the event is set."""
    release = asyncio.Event()

    async def wait(_work: RunTool) -> str:
        await release.wait()
        return "done"

    loop.run_call = wait
    await loop.all()
    task = await loop.client.submit("helper", "call hang", session="s1")
    await until(lambda: loop.calls)
    return task, release


class Flaky:
    """A tool that fails so often, then works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.left, self.error, self.calls = failures, error, 0

    async def __call__(self, work: RunTool) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return "at last"


# -- retries -------------------------------------------------------------------------------------


async def test_a_tool_that_fails_for_the_moment_is_tried_again(loop: Loop) -> None:
    flaky = loop.run_call = Flaky(2, Transient("busy", "try later"))
    await loop.all()
    task = await loop.client.submit("helper", "call shout", session="s1")
    assert (await task.result(40)).output == "got at last"
    assert flaky.calls == 3
    failed = await facts(loop, f.ToolFailed)
    assert [(one.attempt, one.retry) for one in failed] == [(1, True), (2, True)]
    waits = [one.attempt for one in await facts(loop, f.TimerFired) if one.timer == "retry"]
    assert waits == [2, 3]


async def test_a_tool_that_fails_to_the_end_is_an_answer_to_the_model(loop: Loop) -> None:
    loop.run_call = Flaky(99, Transient("busy", "too busy"))
    await loop.all()
    task = await loop.client.submit("fragile", "call shout", session="s1")
    assert (await task.result(40)).output == "got error: too busy"


async def test_a_model_call_that_fails_is_tried_again_and_seen_once(loop: Loop) -> None:
    await loop.all()
    loop.engine().fail_next_step()
    task = await loop.client.submit("helper", "say hello", session="s1")
    assert (await task.result(40)).output == "hello"
    (failure,) = await facts(loop, f.InferFailed)
    assert (failure.error.code, failure.attempt) == ("engine_failed", 1)
    (said,) = await facts(loop, f.Inferred)
    assert said.attempt == 2


async def test_when_all_targets_fail_the_task_fails_with_their_error(loop: Loop) -> None:
    await loop.all()
    loop.engine().fail_always()
    task = await loop.client.submit("fragile", "say hello", session="s1")
    done = await task.result(40)
    assert done.error
    assert done.error.code == "engine_failed"
    tried = [(one.error.code, one.attempt) for one in await facts(loop, f.InferFailed)]
    assert tried == [("engine_failed", 1), ("engine_failed", 2), ("route_exhausted", 3)]


async def test_a_failed_task_is_gone_on_with_where_it_stopped(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit(
        "helper", "steps 4", session="s1", limits=LimitsPatch(max_steps=4)
    )
    done = await task.result(40)
    assert done.error
    assert done.error.code == "step_limit"
    ran = len(loop.calls)
    reply = await ask(bus, "retry", RetryTask(task=task.id, retry="again"))
    assert reply.error is None
    assert (await loop.client.task("again", "s1").result(40)).status == "completed"
    assert len(loop.calls) == 4, "what had a result was not run again"
    assert ran > 0
    refused = await ask(bus, "retry", RetryTask(task=task.id, retry="twice"))
    assert refused.error
    assert refused.error.code == "superseded"


# -- effects -------------------------------------------------------------------------------------


async def test_an_effect_whose_executor_dies_is_asked_for(loop: Loop, bus: Bus) -> None:
    hanging = asyncio.Event()

    async def hang(_work: RunTool) -> str:
        hanging.set()
        await asyncio.sleep(60)
        return ""

    loop.run_call = hang
    await loop.all()
    task = await loop.client.submit("helper", "call pay", session="s1")
    await asyncio.wait_for(hanging.wait(), 10)
    await loop.crash("tools")
    await loop.start("tools")
    await until(parked(loop), 30)
    (question,) = await facts(loop, f.Parked)
    assert (question.step, question.reason) == (1, "unknown_outcome")
    assert len(loop.calls) == 1
    reply = await ask(bus, "approve", ApproveStep(task=task.id, step=1, result="paid, I looked"))
    assert reply.error is None
    assert (await task.result(40)).output == "got paid, I looked"
    assert len(loop.calls) == 1


async def test_an_effect_that_breaks_is_run_again_only_when_a_person_says_so(
    loop: Loop, bus: Bus
) -> None:
    flaky = loop.run_call = Flaky(1, ZeroDivisionError())
    await loop.all()
    task = await loop.client.submit("helper", "call pay", session="s1")
    await until(parked(loop), 30)
    assert flaky.calls == 1
    assert (await ask(bus, "approve", ApproveStep(task=task.id, step=1))).error is None
    assert (await task.result(40)).output == "got at last"
    assert [one.attempt for one in await facts(loop, f.ToolStarted)] == [1, 2]


# -- people --------------------------------------------------------------------------------------


async def test_a_call_waits_for_a_person_and_runs_with_their_arguments(
    loop: Loop, bus: Bus
) -> None:
    await loop.all()
    task = await loop.client.submit("careful", "call pay", session="s1")
    await until(parked(loop))
    assert loop.calls == []
    order = ApproveStep(task=task.id, step=1, arguments='{"n": 7}', by="ada")
    assert (await ask(bus, "approve", order)).error is None
    assert (await task.result(40)).output == "got pay7"
    again = await ask(bus, "approve", order)
    assert again.error
    assert again.error.code == "task_ended"


async def test_a_rejected_call_is_an_answer_to_the_model(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("careful", "call pay", session="s1")
    await until(parked(loop))
    assert (await ask(bus, "reject", RejectStep(task=task.id, step=1, note="no"))).error is None
    assert (await task.result(40)).output == "got error: a person did not allow this. no"
    assert loop.calls == []


async def test_a_question_survives_the_restart_of_everything(
    loop: Loop, bus: Bus, nats_server: NatsServer
) -> None:
    await loop.all()
    task = await loop.client.submit("careful", "call pay", session="s1")
    await until(parked(loop))
    await loop.crash("sessions", "tools")
    nats_server.restart()
    await loop.start("sessions", "tools")

    async def answered() -> bool:
        try:
            reply = await ask(bus, "approve", ApproveStep(task=task.id, step=1))
        except Transient:
            return False
        return reply.error is None or reply.error.code in ("not_parked", "task_ended")

    await until(answered, 30)
    assert (await task.result(30)).output == "got pay0"


async def test_a_limit_is_raised_and_the_task_goes_on(loop: Loop, bus: Bus) -> None:
    await loop.all()
    task = await loop.client.submit("thrifty", "steps 3", session="s1")
    await until(parked(loop))
    (question,) = await facts(loop, f.Parked)
    assert question.detail.startswith("step_limit")
    order = ApproveStep(task=task.id, step=question.step, limits=LimitsPatch(max_steps=20))
    assert (await ask(bus, "approve", order)).error is None
    assert (await task.result(40)).status == "completed"


async def test_what_is_said_to_a_running_task_is_heard(loop: Loop, bus: Bus) -> None:
    task, release = await hanging(loop)
    order = SteerTask(task=task.id, text="say heard", id="m1")
    assert (await ask(bus, "steer", order)).error is None
    release.set()
    assert (await task.result(40)).output == "heard"


@pytest.mark.parametrize(
    ("policy", "status", "code"),
    [("reject", "failed", "session_busy"), ("steer", "completed", ""), ("queue", "completed", "")],
)
async def test_a_second_task_on_a_busy_session(
    loop: Loop, bus: Bus, policy: str, status: str, code: str
) -> None:
    first, release = await hanging(loop)
    body = encode(TaskSubmitted(input="say second", on_busy=policy))  # type: ignore[arg-type]
    await bus.publish("tasks.default.helper.s1", body, {"Millrace-Task": "t2"})
    second = loop.client.task("t2", "s1")
    if policy != "queue":
        done = await second.result(40)
        assert (done.status, done.error.code if done.error else "") == (status, code)
    release.set()
    assert (await first.result(40)).output == ("second" if policy == "steer" else "got done")
    assert (await second.result(40)).joined == (first.id if policy == "steer" else "")


async def test_an_interruption_ends_the_running_task(loop: Loop, bus: Bus) -> None:
    first, release = await hanging(loop)
    body = encode(TaskSubmitted(input="say instead", on_busy="interrupt"))
    await bus.publish("tasks.default.helper.s1", body, {"Millrace-Task": "t2"})
    assert (await loop.client.task("t2", "s1").result(40)).output == "instead"
    ended = await first.result(40)
    release.set()
    assert ended.status == "cancelled"
    assert ended.error == Failure(code="interrupted", detail="task t2 took its place")


@pytest.mark.parametrize(
    ("verb", "body", "code"),
    [
        ("approve", b'{"task": "nobody", "step": 1}', "unknown_task"),
        ("approve", b'{"task": "x"}', "invalid_message"),
        ("steer", b"{", "invalid_message"),
        ("dance", b"{}", "unknown_verb"),
        ("retry", b'{"task": "nobody", "retry": "r"}', "unknown_task"),
    ],
)
async def test_a_bad_request_is_refused(
    loop: Loop, bus: Bus, verb: str, body: bytes, code: str
) -> None:
    await loop.all()
    reply = decode(await bus.request(control_subject(REF, verb), body), ControlReply)
    assert reply.error
    assert reply.error.code == code
