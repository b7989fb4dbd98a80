"""A worker's view of a session: from the log, or from what the step brings along."""

from __future__ import annotations

import msgspec

from services.inference.adapters.conversations import LogConversations
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.client import Millrace
from shared.contracts.agents import AgentSpec, Limits, Sampling
from shared.contracts.base import SessionRef
from shared.contracts.facts import Accepted, Fact, Inferred
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.work import LoggedFact, Recent, RouteStep

REF = SessionRef("default", "talk")
AGENT = AgentSpec(name="helper")


class CountingLog(RunLog):
    """How often the log was read."""

    reads = 0

    async def read(self, ref: SessionRef, after: int = 0):
        self.reads += 1
        return await super().read(ref, after)


def accepted() -> Accepted:
    return Accepted(
        task="t1",
        agent=AGENT,
        revision=1,
        limits=Limits(),
        sampling=Sampling(),
        deadline=1.0,
        source=1,
    )


def logged(seq: int, kind: str, fact: Fact) -> LoggedFact:
    return LoggedFact(seq=seq, kind=kind, task="t1", body=msgspec.to_builtins(fact))


def step(seq: int, recent: Recent | None = None) -> RouteStep:
    return RouteStep(
        ref=REF, task="t1", step=0, route="default", seq=seq, sampling=Sampling(), recent=recent
    )


async def test_what_a_step_brings_along_shows_what_the_log_shows(bus: Bus) -> None:
    log = CountingLog(bus)
    await Millrace(bus).submit("helper", "hello", session="talk", task="t1")
    start = await log.append(REF, accepted())
    written = await log.read(REF)
    log.reads = 0
    facts = (
        logged(written[0].seq, "task", TaskSubmitted(input="hello")),
        logged(start.seq, "accepted", accepted()),
    )
    brought = LogConversations(log)
    view = await brought.view(step(start.seq, Recent(after=0, facts=facts)))
    assert log.reads == 0
    assert view == await LogConversations(log).view(step(start.seq))
    assert [one["content"] for one in view.messages] == [AGENT.instructions, "hello"]
    answer = Inferred(task="t1", step=0, content="hi", reasoning="a greeting")
    said = await log.append(REF, answer)
    later = step(said.seq, Recent(after=start.seq, facts=(logged(said.seq, "inferred", answer),)))
    log.reads = 0
    view = await brought.view(later)
    assert log.reads == 0
    assert view == await LogConversations(log).view(step(said.seq))
    assert view.thoughts == {len(view.messages) - 1: "a greeting"}
    assert view.messages[-1] == {"role": "assistant", "content": "hi"}


async def test_the_log_is_read_where_the_hint_begins_too_late_or_the_step_is_repeated(
    bus: Bus,
) -> None:
    log = CountingLog(bus)
    await Millrace(bus).submit("helper", "hello", session="talk", task="t1")
    start = await log.append(REF, accepted())
    late = step(start.seq, Recent(after=start.seq - 1))
    view = await LogConversations(log).view(late)
    assert log.reads == 1
    assert [one["content"] for one in view.messages] == [AGENT.instructions, "hello"]
    await log.append(REF, Inferred(task="t1", step=0, content="hi"))
    view = await LogConversations(log).view(step(start.seq, Recent(after=0)), repeated=True)
    assert view.settled
