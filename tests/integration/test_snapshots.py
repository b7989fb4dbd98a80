"""Snapshots: a shortcut that loads the same state, that no reader of facts sees, and that is not
believed when other code made it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from services.sessions.adapters.snapshots import SessionLog, fold_digest, pack, unpack
from services.sessions.core.evolve import evolve
from services.sessions.core.state import SessionState
from services.sessions.handlers import Bounds
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef
from shared.errors import Permanent
from shared.subjects import RUNS, snapshot_subject
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        loop.bounds = Bounds(snapshot_every=10)
        await loop.all()
        yield loop


async def talk(loop: Loop, tasks: int, steps: int = 4) -> None:
    for _ in range(tasks):
        task = await loop.client.submit("helper", f"steps {steps}", session="s1")
        assert (await task.result(40)).status == "completed"


async def folded(bus: Bus) -> SessionState:
    state = SessionState(ref=REF)
    for stored in await RunLog(bus).read(REF):
        state = evolve(state, stored)
    return state


async def snapshots(bus: Bus) -> int:
    query = {"subjects_filter": snapshot_subject(REF)}
    found = (await bus.api(f"STREAM.INFO.{RUNS}", query))["state"].get("subjects") or {}
    return sum(found.values())


async def loaded(log: SessionLog) -> tuple[SessionState, SessionState, int]:
    """The state kept, the state after the tail, and how long the tail was."""
    start, tail = await log.load(REF)
    state = start
    for stored in tail:
        state = evolve(state, stored)
    return start, state, len(tail)


async def test_a_snapshot_and_its_tail_give_the_state_of_the_whole_log(
    loop: Loop, bus: Bus
) -> None:
    await talk(loop, 12)
    start, state, tail = await loaded(SessionLog(bus))
    assert start.seq > 0
    assert tail <= 20
    assert state == await folded(bus)
    assert await snapshots(bus) == 1, "each snapshot replaces the one before"


async def test_a_session_goes_on_from_its_snapshot(loop: Loop, bus: Bus) -> None:
    await talk(loop, 12)
    await until(lambda: snapshots(bus))
    for how in ("stop", "crash"):
        await getattr(loop, how)("sessions")
        await loop.start("sessions")
        await talk(loop, 1)
    assert (await loaded(SessionLog(bus)))[1] == await folded(bus)


async def test_readers_of_the_log_see_no_snapshot(loop: Loop, bus: Bus) -> None:
    await talk(loop, 4)
    await until(lambda: snapshots(bus))
    facts = await RunLog(bus).read(REF)
    assert "snapshot" not in {stored.kind for stored in facts}
    shown = [one async for one in loop.client.session("s1").events(follow=False)]
    assert {one.kind for one in shown} == {stored.kind for stored in facts} | {"delta"}


@pytest.mark.parametrize("how", ["shape", "broken", "foreign"])
async def test_a_snapshot_that_other_code_made_is_not_believed(
    loop: Loop, bus: Bus, how: str
) -> None:
    await talk(loop, 12)
    await loop.stop("sessions")
    lie = SessionState(ref=REF, seq=(await folded(bus)).seq - 3, ended=frozenset({"never"}))
    if how == "foreign":
        lie = SessionState(ref=SessionRef("default", "s2"), seq=lie.seq)
    bodies = {"shape": pack(lie, "another"), "broken": b"{", "foreign": pack(lie, fold_digest())}
    await bus.publish(snapshot_subject(REF), bodies[how], {"Nats-Rollup": "sub"})
    start, state, _ = await loaded(SessionLog(bus))
    assert start == SessionState(ref=REF)
    assert state == await folded(bus)
    await loop.start("sessions")
    await talk(loop, 3)
    assert (await loaded(SessionLog(bus)))[0].seq > lie.seq, "a good one takes its place"


async def test_a_state_too_large_for_the_bus_is_not_kept(bus: Bus) -> None:
    state = SessionState(ref=REF, seq=9, ended=frozenset(f"task-{n:060d}" for n in range(20_000)))
    with pytest.raises(Permanent) as caught:
        await SessionLog(bus).save(state)
    assert caught.value.code == "payload_too_large"
    assert await KeyValue.over(bus, RUNS).get(snapshot_subject(REF)) is None


def test_a_body_that_is_no_snapshot_is_none() -> None:
    for body in (b"", b"[]", b"{}", b'{"fold": "x"}', b'{"fold": "x", "state": 3}'):
        assert unpack(body, "x") is None
    assert unpack(orjson.dumps({"fold": "y", "state": {}}), "x") is None


async def test_a_deletion_takes_the_snapshot_along(loop: Loop, bus: Bus) -> None:
    """It lies behind the facts that it shows, maybe behind all that the deletion covers."""
    await talk(loop, 4)
    await until(lambda: snapshots(bus))
    await SessionLog(bus).save(await folded(bus))
    await loop.client.session("s1").delete()
    assert await snapshots(bus) == 0
    await talk(loop, 1)
    facts = await RunLog(bus).read(REF)
    assert (facts[0].kind, (await folded(bus)).ended) == ("deleted", {facts[-1].task})


async def test_a_snapshot_of_a_deleted_life_brings_nothing_back(
    loop: Loop, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who was stopped in the middle kept it, after all was erased."""
    monkeypatch.setattr("services.sessions.adapters.snapshots.HEAD", 2)
    await talk(loop, 1)
    state = SessionState(ref=REF)
    for stored in (await RunLog(bus).read(REF))[:4]:
        state = evolve(state, stored)
    assert state.running
    await loop.client.session("s1").delete()
    await loop.stop("sessions")
    await SessionLog(bus).save(state)
    assert (await loaded(SessionLog(bus)))[1].idle
    await loop.start("sessions")
    await talk(loop, 1)
    state = (await loaded(SessionLog(bus)))[1]
    assert state == await folded(bus)
    assert state.idle
