"""Several completions as one stream: order, errors, and that nothing is left running."""

import asyncio

import pytest

from services.ingress.handlers.choices import interleaved
from shared.contracts.tokens import DirectEvent
from shared.errors import Transient


class Stream:
    """Says its words, then waits for ever, raises or ends."""

    def __init__(self, *words, end=None):
        self.words, self.end, self.closed = words, end, False

    async def events(self):
        try:
            for word in self.words:
                await asyncio.sleep(0)
                yield DirectEvent(text=word)
            if isinstance(self.end, Exception):
                raise self.end
            if self.end == "hang":
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # as an abort does
            self.closed = True


async def said(*streams):
    found = []
    async for index, event in interleaved([stream.events() for stream in streams]):
        found.append((index, event.text))
    return found


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_every_event_comes_once_and_in_the_order_of_its_stream(count):
    streams = [Stream(*(f"{n}.{i}" for i in range(n + 3))) for n in range(count)]
    found = await said(*streams)
    for n in range(count):
        assert [text for index, text in found if index == n] == list(streams[n].words)
    assert all(stream.closed for stream in streams)


async def test_a_slow_choice_holds_nobody_back():
    fast, slow = Stream("a", "b"), Stream(end="hang")
    events = interleaved([slow.events(), fast.events()])
    assert [(await anext(events))[1].text for _ in range(2)] == ["a", "b"]
    await events.aclose()
    assert fast.closed
    assert slow.closed


async def test_the_first_error_ends_all_of_them():
    streams = [Stream("a", end="hang"), Stream(end=Transient("gone"))]
    with pytest.raises(Transient, match="gone"):
        await said(*streams)
    assert all(stream.closed for stream in streams)


@pytest.mark.parametrize("count", [1, 3])
async def test_whoever_stops_waiting_ends_all_of_them(count):
    streams = [Stream(end="hang") for _ in range(count)]
    waiting = asyncio.create_task(said(*streams))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert all(stream.closed for stream in streams)
