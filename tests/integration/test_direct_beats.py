"""A completion that says nothing for long shows that it is worked on: nobody has to give it up."""

from __future__ import annotations

import pytest

from services.inference.adapters.bus import Direct, Tokens
from services.inference.adapters.conversations import LogConversations
from services.inference.adapters.shelf import KvShelf
from services.inference.handlers import Inference
from shared import clock
from shared.bus.connect import Bus
from shared.bus.log import RunLog
from shared.contracts.base import decode, encode
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import ChatMessage, DirectRequest
from shared.subjects import direct_subject
from tests.fakes.scripted_model import scripted_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]
BEAT = DirectEvent()
SAY = (ChatMessage(role="user", content="say hello"),)
WHOLE = DirectRequest(id="d1", tenant="default", model="m", messages=SAY, whole=True)


async def answers(bus: Bus, request: DirectRequest) -> list[DirectEvent]:
    """All that a slow worker sends, up to the end of the answer."""
    model = scripted_model("m", "w1", seconds_per_token=0.1)
    await model.chat.start()
    shelf, log = KvShelf(bus), LogConversations(RunLog(bus))
    inference = Inference(model, log, shelf, Tokens(bus), clock.now, clock.monotonic)
    direct = Direct(bus, inference, "w1", beat=0.1)
    await direct.start()
    try:
        with bus.replies.open(10) as replies:
            await bus.send(direct_subject("w1"), encode(request), reply=replies.subject)
            events: list[DirectEvent] = []
            while not events or events[-1].done is None:
                events.append(decode((await replies.next()).data, DirectEvent))
            return events
    finally:
        await direct.stop()
        await model.chat.close()


async def test_a_long_answer_that_is_wanted_whole_beats_until_it_is_there(bus: Bus) -> None:
    *before, last = await answers(bus, WHOLE)
    assert before
    assert all(event == BEAT for event in before)
    assert last.done is not None
    assert last.done.content == "hello"
