"""A cursor is a place in the log: valid at every replica, for as long as the log is."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from shared.bus.connect import Bus
from shared.bus.feed import Feed
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef, encode
from shared.contracts.facts import Done, Forked, Inferred
from shared.contracts.log import Event
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent
from shared.subjects import TOKENS, tokens_subject
from tests.integration.broker_process import NatsServer
from tests.integration.test_feed import REF, TEXT, Story, kinds_of, viewer
from tests.integration.test_log import accepted

pytestmark = pytest.mark.integration
FORK = SessionRef("default", "branch")


async def rest(feed: Feed, after: str, ref: SessionRef = REF) -> list[Event]:
    """What the log holds behind a cursor."""
    return [event async for event in feed.follow(ref, after, follow=False)]


async def speak(bus: Bus, index: int, attempt: int) -> None:
    delta = TokenDelta(task="t1", step=0, index=index, text=TEXT[index], attempt=attempt)
    await bus.send(tokens_subject(REF, "t1"), encode(delta))


async def test_in_the_middle_of_an_answer_after_the_tokens_are_gone(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server) as feed, aclosing(feed.follow(REF)) as events:
        story = Story(bus)
        await story.log.append(REF, accepted("t1"))
        await anext(events)
        await story.speak("t1", 0)
        live = [await anext(events) for _ in TEXT]
        await bus.api(f"STREAM.PURGE.{TOKENS}")
        said = Inferred(task="t1", step=0, content="".join(TEXT), cuts=(5, 9, 13))
        await story.log.append(REF, said)
        for place, event in enumerate(live):
            seen = await rest(Feed(bus, RunLog(bus)), event.id)
            assert [one.id for one in seen[:-1]] == [one.id for one in live[place + 1 :]]
            assert [one.data for one in seen[:-1]] == [one.data for one in live[place + 1 :]]
            assert seen[-1].kind == "inferred"


async def test_after_an_attempt_that_was_superseded(bus: Bus, nats_server: NatsServer) -> None:
    log = RunLog(bus)
    async with viewer(nats_server) as feed, aclosing(feed.follow(REF)) as events:
        await log.append(REF, accepted("t1"))
        await anext(events)
        for index in (0, 1):
            await speak(bus, index, attempt=1)
        first = [await anext(events) for _ in range(2)]
        for index in range(3):
            await speak(bus, index, attempt=2)
        second = [await anext(events) for _ in range(3)]
    said = Inferred(task="t1", step=0, content="".join(TEXT), cuts=(5, 9, 13), attempt=2)
    await log.append(REF, said)
    other = Feed(bus, log)
    for event in first:  # what was said in vain is over: the attempt tells
        assert [one.id for one in await rest(other, event.id)][:3] == [one.id for one in second]
    assert [one.kind for one in await rest(other, second[1].id)] == ["delta", "inferred"]


async def test_while_it_speaks_at_another_replica(bus: Bus, nats_server: NatsServer) -> None:
    log = RunLog(bus)
    begun = await log.append(REF, accepted("t1"))
    await speak(bus, 0, attempt=1)
    await bus.nc.flush()
    after = f"{begun.seq}:t1.0.1.0"
    async with (
        viewer(nats_server, shared=True) as feed,
        aclosing(feed.follow(REF, after)) as events,
    ):
        upcoming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.1)
        assert not upcoming.done()
        await speak(bus, 1, attempt=1)
        event = await asyncio.wait_for(upcoming, 5)
    assert event.id == f"{begun.seq}:t1.0.1.1"


async def test_in_a_fork(bus: Bus) -> None:
    log, feed = RunLog(bus), Feed(bus, RunLog(bus))
    await Story(bus).play(turns=2)
    parent = await rest(feed, "")
    step = next(event for event in parent if event.kind == "tool_done")
    at = int(step.id.partition(":")[0])
    await log.append(FORK, Forked(parent=REF.session, at=at, task="t1", step=2))
    await log.append(FORK, Inferred(task="t1", step=2, content="".join(TEXT), cuts=(5, 9, 13)))
    await log.append(FORK, Done(task="t1", status="completed"))
    whole = await rest(feed, "", FORK)
    for place, event in enumerate(whole):
        seen = await rest(feed, event.id, FORK)
        assert [one.id for one in seen] == [one.id for one in whole[place + 1 :]]
    for ref, cursor in ((FORK, parent[-1].id), (REF, whole[-1].id)):
        with pytest.raises(Permanent) as refused:
            await rest(feed, cursor, ref)
        assert refused.value.code == "invalid_cursor"


async def test_in_a_session_with_several_tasks(bus: Bus) -> None:
    for number in range(3):
        await Story(bus).play(turns=2, task=f"t{number}")
    feed = Feed(bus, RunLog(bus))
    whole = await rest(feed, "")
    assert [event.kind for event in whole] == kinds_of(2) * 3
    for place, event in enumerate(whole):
        assert await rest(feed, event.id) == whole[place + 1 :]


async def test_of_a_fact_that_the_log_no_longer_holds(bus: Bus) -> None:
    await Story(bus).play()
    feed = Feed(bus, RunLog(bus))
    whole = await rest(feed, "")
    facts = [event for event in whole if ":" not in event.id]
    await bus.api("STREAM.PURGE.RUNS", {"seq": int(facts[3].id)})  # as its age would
    assert await rest(feed, facts[1].id) == await rest(feed, "")
