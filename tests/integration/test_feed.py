"""Viewers see every fact and every delta once and in order, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

import nats.errors
import pytest
from nats.aio.subscription import Subscription

from shared.bus.connect import Bus, PubAck, open_bus
from shared.bus.feed import Feed
from shared.bus.log import RunLog
from shared.contracts.base import Message, SessionRef, encode
from shared.contracts.facts import Done, Inferred, ToolCall, ToolDone
from shared.contracts.log import Event
from shared.contracts.tasks import TaskSubmitted
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent, Transient
from shared.subjects import (
    DELTA,
    feed_filter,
    partition,
    session_filter,
    task_subject,
    tokens_subject,
)
from tests.integration.broker_process import NatsServer
from tests.integration.running_loop import LOG
from tests.integration.test_log import accepted
from tests.integration.waiting import until

pytestmark = pytest.mark.integration
REF = SessionRef("default", "s1")
TEXT = ("Good ", "morn", "ing.")
CALL = ToolCall(id="c", name="x", arguments="{}")


class Story:
    """Plays a task with `turns` model calls, each spoken in three deltas, on its own connection."""

    def __init__(self, bus: Bus, ref: SessionRef = REF) -> None:
        self._bus, self._ref, self.log = bus, ref, RunLog(bus)

    async def play(self, turns: int = 3, task: str = "t1") -> None:
        feed = await self._bus.nc.subscribe(feed_filter(session_filter(self._ref)))
        ack = await self._bus.publish(
            task_subject(self._ref, "plain"),
            encode(TaskSubmitted(input="x")),
            {"Nats-Msg-Id": task},
        )
        await republished(feed, ack)

        async def tell(fact: Message) -> None:
            await republished(feed, await self.log.append(self._ref, fact))

        await tell(accepted(task))
        for turn in range(turns):
            step = 2 * turn
            await self.speak(task, step)
            call = (CALL,) if turn < turns - 1 else ()
            text, cuts = "".join(TEXT), (5, 9, 13)
            await tell(Inferred(task=task, step=step, content=text, cuts=cuts, tool_calls=call))
            if call:
                await tell(ToolDone(task=task, step=step + 1, call="c", name="x", result="r"))
        await tell(Done(task=task, status="completed"))
        await feed.unsubscribe()

    async def speak(self, task: str, step: int) -> None:
        for index, text in enumerate(TEXT):
            delta = TokenDelta(task=task, step=step, index=index, text=text)
            await self._bus.send(tokens_subject(self._ref, task), encode(delta))


async def republished(feed: Subscription, ack: PubAck) -> None:
    """The server acknowledges a fact before it republishes it: a delta could come in between.

    Where it was killed meanwhile, nothing comes.
    """
    with suppress(nats.errors.TimeoutError):
        while True:
            heard = await feed.next_msg(2)
            is_fact = heard.subject.split(".")[4] != DELTA
            if is_fact and (heard.headers or {})["Nats-Sequence"] == str(ack.seq):
                return


def kinds_of(turns: int) -> list[str]:
    """What a viewer has to see of a story."""
    turn = ["delta"] * 3 + ["inferred", "tool_done"]
    return ["task", "accepted", *(turn * turns)[:-1], "done"]


async def watch(feed: Feed, after: str = "", tasks: int = 1, ref: SessionRef = REF) -> list[Event]:
    """Follow until so many tasks have ended."""
    seen: list[Event] = []
    async with aclosing(feed.follow(ref, after)) as events:
        async for event in events:
            seen.append(event)
            tasks -= event.kind == "done"
            if not tasks:
                return seen
    return seen


@asynccontextmanager
async def viewer(server: NatsServer, *, shared: bool = False) -> AsyncIterator[Feed]:
    async with open_bus(server.address(), "viewer", LOG) as bus:
        yield Feed(bus, RunLog(bus), shared=shared)


async def watching(feed: Feed, count: int = 1) -> None:
    """Wait until so many viewers follow live."""
    await until(lambda: feed.viewers == count)
    await asyncio.gather(*(lane.open() for lane in feed._lanes.values()))


async def test_a_live_viewer_sees_everything_once_in_order(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server) as feed:
        seen = asyncio.create_task(watch(feed))
        await watching(feed)
        await Story(bus).play()
        events = await asyncio.wait_for(seen, 10)
    assert [event.kind for event in events] == kinds_of(3)
    assert len({event.id for event in events}) == len(events)
    spoken = [e.data.text for e in events if isinstance(e.data, TokenDelta)]
    assert tuple(spoken) == TEXT * 3


async def test_deltas_come_before_their_fact_is_known(bus: Bus, nats_server: NatsServer) -> None:
    async with viewer(nats_server) as feed, aclosing(feed.follow(REF)) as events:
        story = Story(bus)
        await story.log.append(REF, accepted("t1"))
        assert (await anext(events)).kind == "accepted"
        await story.speak("t1", 0)
        async with asyncio.timeout(20):
            assert [(await anext(events)).kind for _ in range(3)] == ["delta"] * 3


async def test_who_comes_while_it_speaks_hears_the_beginning(
    bus: Bus, nats_server: NatsServer
) -> None:
    story = Story(bus)
    begun = await story.log.append(REF, accepted("t1"))
    await story.speak("t1", 0)
    await bus.nc.flush()
    for after in ("", str(begun.seq)):
        async with viewer(nats_server) as feed, aclosing(feed.follow(REF, after)) as events:
            async with asyncio.timeout(20):
                seen = [await anext(events) for _ in range(3 if after else 4)]
        assert [event.kind for event in seen][-3:] == ["delta"] * 3


async def test_any_event_id_resumes_exactly_there(bus: Bus, nats_server: NatsServer) -> None:
    await Story(bus).play()
    async with viewer(nats_server) as feed:
        whole = [event async for event in feed.follow(REF, follow=False)]
        assert [event.kind for event in whole] == kinds_of(3)
        for place, event in enumerate(whole):
            rest = [one async for one in feed.follow(REF, event.id, follow=False)]
            assert [one.id for one in rest] == [one.id for one in whole[place + 1 :]]


async def test_any_event_id_resumes_while_it_goes_on(bus: Bus, nats_server: NatsServer) -> None:
    story = Story(bus)
    await story.play()
    async with viewer(nats_server) as feed:
        whole = [event async for event in feed.follow(REF, follow=False)]
        viewers = [asyncio.create_task(watch(feed, event.id, 2)) for event in whole[:-1]]
        await watching(feed, len(viewers))
        await story.play(turns=2, task="t2")
        for place, seen in enumerate(await asyncio.wait_for(asyncio.gather(*viewers), 20)):
            expected = [one.kind for one in whole[place + 1 :]] + kinds_of(2)
            assert [event.kind for event in seen] == expected
            assert len({event.id for event in seen}) == len(seen)


async def test_a_wrong_id_is_refused(bus: Bus) -> None:
    with pytest.raises(Permanent) as refused:
        await anext(Feed(bus, RunLog(bus)).follow(REF, "yesterday"))
    assert refused.value.code == "invalid_cursor"


async def test_a_server_restart_hides_nothing(bus: Bus, nats_server: NatsServer) -> None:
    story, over = Story(bus), asyncio.Event()
    async with viewer(nats_server) as feed:
        seen = asyncio.create_task(watch_until(feed, "last"))
        await watching(feed)
        telling = asyncio.create_task(_tell(story, over))
        for _ in range(2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(nats_server.restart)
        over.set()
        await asyncio.wait_for(telling, 30)
        events = await asyncio.wait_for(seen, 20)
    facts = [event.id for event in events if event.kind != "delta"]
    assert facts == [str(fact.seq) for fact in await story.log.read(REF)]
    spoken = [e.data.text for e in events if isinstance(e.data, TokenDelta)]
    inferred = [event for event in events if event.kind == "inferred"]
    assert tuple(spoken) == TEXT * len(inferred)
    assert len(inferred) > 5  # how many there are is the machine's affair


async def watch_until(feed: Feed, task: str) -> list[Event]:
    seen: list[Event] = []
    async with aclosing(feed.follow(REF)) as events:
        async for event in events:
            seen.append(event)
            if isinstance(event.data, Done) and event.task == task:
                break
    return seen


async def _tell(story: Story, over: asyncio.Event) -> None:
    """One story after the other until it is over; what a lost connection spoilt is told again."""
    number = 0
    while True:
        name = "last" if over.is_set() else f"t{number}"
        try:
            await story.play(task=name)
        except Transient:
            continue
        if name == "last":
            return
        number += 1


async def test_what_happens_while_a_lane_is_cut_off_is_handed_over(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server) as feed, aclosing(feed.follow(REF)) as events:
        log = RunLog(bus)
        await log.append(REF, accepted("t0"))
        first = await anext(events)
        (lane,) = feed._lanes.values()
        await lane.close()  # as a lost connection: nothing comes live
        await log.append(REF, accepted("t1"))
        seen = lane._seen
        await lane.open()
        lane._seen, lane._connection = seen, -1
        await log.append(REF, accepted("t2"))
        async with asyncio.timeout(20):
            rest = [await anext(events) for _ in range(2)]
    assert [event.task for event in [first, *rest]] == ["t0", "t1", "t2"]


async def test_what_was_never_republished_is_found_at_the_next_look(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server, shared=True) as feed, aclosing(feed.follow(REF)) as events:
        log = RunLog(bus)
        await log.append(REF, accepted("t0"))
        await anext(events)
        (lane,) = feed._lanes.values()
        await lane.close()
        await log.append(REF, accepted("t1"))
        await feed._look_around()
        async with asyncio.timeout(20):
            assert (await anext(events)).task == "t1"


async def test_a_viewer_that_does_not_read_gets_everything_later(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server) as feed, aclosing(feed.follow(REF)) as events:
        log = RunLog(bus)
        await log.append(REF, accepted("t1"))
        seen = [await anext(events)]
        for start in range(0, 5000, 1000):
            await asyncio.gather(
                *(log.append(REF, Inferred(task="t1", step=start + n)) for n in range(1000))
            )
        await log.append(REF, Done(task="t1", status="completed"))
        async with asyncio.timeout(30):
            async for event in events:
                seen.append(event)
                if event.kind == "done":
                    break
    assert [event.kind for event in seen] == ["accepted", *["inferred"] * 5000, "done"]


async def test_fifty_viewers_share_one_subscription_and_all_see_all(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with viewer(nats_server) as feed:
        viewers = [asyncio.create_task(watch(feed)) for _ in range(50)]
        await watching(feed, 50)
        assert feed.subscriptions == 1
        await Story(bus).play()
        for events in await asyncio.wait_for(asyncio.gather(*viewers), 20):
            assert [event.kind for event in events] == kinds_of(3)
        assert feed.subscriptions == 0


async def test_a_shared_feed_hears_partitions_and_shows_each_viewer_its_session(
    bus: Bus, nats_server: NatsServer
) -> None:
    refs = [SessionRef("default", f"s{n}") for n in range(60)]
    async with viewer(nats_server, shared=True) as feed:
        viewers = [asyncio.create_task(watch(feed, ref=ref)) for ref in refs]
        await watching(feed, len(refs))
        assert feed.subscriptions == len({partition(ref.tenant, ref.session) for ref in refs})
        for ref in refs:
            await Story(bus, ref).play(turns=1, task=f"t-{ref.session}")
        for ref, seen in zip(refs, await asyncio.gather(*viewers), strict=True):
            assert [event.kind for event in seen] == kinds_of(1)
            assert {event.task for event in seen} == {f"t-{ref.session}"}
        await feed._look_around()
        assert feed.subscriptions > 0  # whoever comes next finds them open
        await feed._look_around()
        assert feed.subscriptions == 0


async def test_a_place_in_another_session_is_refused(bus: Bus) -> None:
    log = RunLog(bus)
    other = await log.append(SessionRef("default", "other"), accepted("t1"))
    own = await log.append(REF, accepted("t2"))
    feed = Feed(bus, log)
    for cursor in (f"{other.seq}", f"{other.seq}:t1.0.1.3", f"{own.seq + 1}"):
        with pytest.raises(Permanent) as refused:
            await anext(feed.follow(REF, cursor))
        assert (refused.value.code, refused.value.field) == ("invalid_cursor", "after")
    assert [one async for one in feed.follow(REF, str(own.seq), follow=False)] == []
