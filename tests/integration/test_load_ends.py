"""Whether a task ends just once is looked up in the log, where it was not heard just once."""

from __future__ import annotations

import pytest

from infra.local.broker import free_port
from loadtests.drive.nats import Wire
from loadtests.plan import Plan, Tenant
from loadtests.profiles import PROFILES
from loadtests.questions import DEFAULT, read_questions
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.contracts.facts import Done, Totals
from shared.errors import Transient
from tests.integration.broker_process import NatsServer

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")


@pytest.fixture
def plan(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("MILLRACE_NATS_URL", nats_server.url)
    monkeypatch.setenv("MILLRACE_NATS_TOKEN", nats_server.token)
    return Plan(
        url="http://127.0.0.1:1",
        nats=True,
        profile=PROFILES["short"],
        questions=read_questions(DEFAULT),
        tenants=(Tenant("default"),),
        run="load_1",
        folder="",
    )


def done(task: str) -> Done:
    return Done(task=task, status="completed", totals=Totals(steps=3))


async def test_what_was_not_heard_is_looked_up_and_what_is_missing_is_a_fault(
    bus: Bus, plan: Plan
) -> None:
    await RunLog(bus).append(REF, done("before"))
    wire = Wire(plan, late=0.0)
    await wire.open()
    try:
        for task in ("before", "heard", "ghost"):
            wire.expect("default", task)
        await RunLog(bus).append(REF, done("heard"))
        found = await wire.ends()
    finally:
        await wire.close()
    assert (found.watched, found.tasks, found.steps) == (True, 3, 6)
    assert found.faults == ("ghost has 0 ends in the log",)


async def test_an_end_that_the_server_refused_is_no_second_end(bus: Bus, plan: Plan) -> None:
    wire = Wire(plan, late=0.0)
    await wire.open()
    try:
        wire.expect("default", "t1")
        log = RunLog(bus)
        await log.append(REF, done("t1"))
        await log.append(REF, done("t1"))
        found = await wire.ends()
    finally:
        await wire.close()
    assert found.steps == 3  # of one of the two that were heard
    assert found.faults == ()


async def test_a_broker_that_is_not_there_is_told(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_NATS_URL", f"nats://127.0.0.1:{free_port()}")
    with pytest.raises(Transient, match="no_broker") as caught:
        await Wire(plan, reach=0.2).open()
    assert "MILLRACE_NATS_URL" in caught.value.detail
