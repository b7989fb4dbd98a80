"""A worker's side of stateless completions: what it says while it works, what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from services.inference.adapters.bus import Direct, Tokens
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.shelf import KvShelf
from services.inference.core.dialect import Dialect
from services.inference.handlers import EngineChat, Inference
from shared import clock
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.bus.replies import Answers
from shared.contracts.base import SessionRef, decode, encode
from shared.contracts.demands import Demands
from shared.contracts.facts import Completed
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import ChatMessage, DirectRequest
from shared.subjects import DIRECT_SESSION, direct_subject
from tests.fakes.scripted_model import scripted_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
BEAT = DirectEvent()
SAY = (ChatMessage(role="user", content="say hello"),)
WHOLE = DirectRequest(id="d1", tenant="default", model="m", messages=SAY, whole=True)


@asynccontextmanager
async def direct_worker(
    bus: Bus,
    *,
    seconds_per_token: float = 0.0,
    beat: float = 10.0,
    dialect: Dialect | None = None,
) -> AsyncIterator[None]:
    model = scripted_model("m", "w1", seconds_per_token)
    assert isinstance(model.chat, EngineChat)
    model.chat.dialect = dialect or Dialect()
    await model.chat.start()
    shelf, log = KvShelf(bus), LogConversations(RunLog(bus))
    inference = Inference(model, log, shelf, Tokens(bus), clock.now, clock.monotonic)
    direct = Direct(bus, inference, "w1", beat=beat)
    await direct.start()
    yield
    await direct.stop()
    await model.chat.close()


async def answers(bus: Bus, request: DirectRequest) -> list[DirectEvent]:
    """All that comes, up to the end of the answer."""
    with bus.replies.open(10) as replies:
        await bus.send(direct_subject("w1"), encode(request), reply=replies.subject)
        return await rest(replies)


async def rest(replies: Answers) -> list[DirectEvent]:
    events: list[DirectEvent] = []
    while not events or (events[-1].done is None and events[-1].error is None):
        events.append(decode((await replies.next()).data, DirectEvent))
    return events


async def recorded(bus: Bus) -> list[Completed]:
    facts = await RunLog(bus).read(SessionRef("default", DIRECT_SESSION))
    return [one.fact for one in facts if isinstance(one.fact, Completed)]


async def test_a_long_answer_that_is_wanted_whole_beats_until_it_is_there(bus: Bus) -> None:
    async with direct_worker(bus, seconds_per_token=0.1, beat=0.1):
        *before, last = await answers(bus, WHOLE)
    assert before
    assert all(event == BEAT for event in before)
    assert last.done is not None
    assert last.done.content == "hello"


async def test_all_that_was_answered_is_charged_when_the_worker_has_stopped(bus: Bus) -> None:
    requests = [replace(WHOLE, id=f"d{number}") for number in range(20)]
    async with direct_worker(bus):
        ends = await asyncio.gather(*(answers(bus, request) for request in requests))
    assert all(end[-1].done is not None for end in ends)
    charged = await recorded(bus)
    assert sorted(fact.id for fact in charged) == sorted(request.id for request in requests)
    assert all(fact.usage.output and fact.error is None for fact in charged)


async def test_what_is_answered_while_the_worker_stops_is_charged(bus: Bus) -> None:
    body = encode(replace(WHOLE, whole=False))
    with bus.replies.open(10) as replies:
        async with direct_worker(bus, seconds_per_token=0.05):
            await bus.send(direct_subject("w1"), body, reply=replies.subject)
            await replies.next()  # it speaks
        assert (await rest(replies))[-1].done is not None
    assert [fact.finish for fact in await recorded(bus)] == ["stop"]


async def test_reasoning_is_told_apart_and_charged_with_the_answer(bus: Bus) -> None:
    says = ChatMessage(role="user", content="say <think>hm</think>hello")
    async with direct_worker(bus, dialect=Dialect("hermes", "qwen3")):
        *before, last = await answers(bus, replace(WHOLE, messages=(says,), whole=False))
    assert "".join(event.reasoning for event in before) == "hm"
    assert "".join(event.text or "" for event in before) == "hello"
    assert last.done is not None
    assert (last.done.reasoning, last.done.content) == ("hm", "hello")
    (charged,) = await recorded(bus)
    assert charged.usage == last.done.usage
    assert 0 < charged.usage.reasoning < charged.usage.output


async def test_a_completion_that_fails_is_recorded_beside_those_that_do_not(bus: Bus) -> None:
    wrong = replace(WHOLE, id="d2", demands=Demands(tool_choice="required"))
    async with direct_worker(bus):
        ends = await asyncio.gather(answers(bus, WHOLE), answers(bus, wrong))
    assert [end[-1].error is None for end in ends] == [True, False]
    found = {fact.id: fact for fact in await recorded(bus)}
    assert found["d1"].error is None
    assert found["d2"].error is not None
    assert (found["d2"].error.code, found["d2"].usage.output) == ("invalid_request", 0)
