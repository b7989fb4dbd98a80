"""Replay on a real server: the log of a real loop follows from itself; a foreign fact does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared import replay
from shared.bus.connect import Bus
from shared.contracts.facts import Inferred
from shared.errors import Permanent, Transient
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import Loop, running_loop

pytestmark = pytest.mark.integration


@pytest.fixture
async def loop(nats_server: NatsServer, bus: Bus, tmp_path: Path) -> AsyncIterator[Loop]:
    async with running_loop(nats_server, tmp_path, bus) as loop:
        yield loop


async def test_what_a_loop_has_done_follows_from_its_log(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loop.all()
    session = loop.client.session("s1")
    orders = ("say a", "tools 2", "call astray")
    tasks = [await loop.client.submit("helper", order, session="s1") for order in orders]
    for task in tasks:
        await task.result(40)
    await (await loop.client.submit("nobody", "say x", session="s1")).result(40)
    facts = await session.history()
    monkeypatch.setattr(replay, "_PAGE", 4)
    rows = [row async for row in session.replay()]
    assert [row.seq for row in rows] == [fact.seq for fact in facts]
    assert {row.verdict for row in rows} == {"explained", "outside"}
    monkeypatch.setattr(replay, "_SCAN", 5)
    assert (await session.check()).facts == len(facts)
    assert (await session.check()).difference is None


async def test_a_fact_that_nobody_decided_is_the_first_difference(loop: Loop) -> None:
    await loop.all()
    await (await loop.client.submit("helper", "say a", session="s1", task="t1")).result(40)
    session = loop.client.session("s1")
    stray = await loop.client.log.append(session.ref, Inferred(task="t1", step=9, content="?"))
    found = (await session.check()).difference
    assert found is not None
    assert (found.seq, found.kind, found.step) == (stray.seq, "inferred", 9)


async def test_one_place(loop: Loop) -> None:
    await loop.all()
    await loop.client.submit("helper", "say a", session="s0")
    (first, *_) = await loop.client.session("s0").history()
    await (await loop.client.submit("helper", "say a", session="s1", task="t1")).result(40)
    session = loop.client.session("s1")
    accepted = next(fact for fact in await session.history() if fact.kind == "accepted")
    place = await session.replay_at(accepted.seq)
    assert "work/t1.0/1" in place.rows[0].due
    assert place.state is not None
    with pytest.raises(Permanent, match="invalid_sequence"):
        await session.replay_at(first.seq)


async def test_sessions_are_listed_per_tenant(loop: Loop) -> None:
    client = loop.client
    assert await client.sessions() == []
    for session in ("s2", "s1", "s2"):
        await client.submit("helper", "say a", session=session)
    await client.for_tenant("other").submit("plain", "say a", session="s3")
    assert await client.sessions() == ["s1", "s2"]
    assert await client.for_tenant("other").sessions() == ["s3"]


async def test_what_cannot_be_answered(loop: Loop) -> None:
    with pytest.raises(Transient, match="no_responders"):
        await loop.client.session("s1").check()
    await loop.start("sessions")
    with pytest.raises(Permanent, match="unknown_session"):
        await loop.client.session("s1").check()


async def test_a_question_that_cannot_be_read_is_answered(loop: Loop, bus: Bus) -> None:
    await loop.start("sessions")
    for body in (b"", b"\xff", b'{"limit": 0}', b'{"after": "x"}', b"[]"):
        assert b"invalid_message" in await bus.request("replay.default.s1", body)
    assert b"invalid_name" in await bus.request("replay.default.a$b", b"{}")
