"""Frames that leave together, and work whose client may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from fastapi import Request

from services.ingress.adapters.http.transport import gathered, unless_gone


async def test_what_is_ready_together_leaves_together():
    more = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        for frame in (b"a", b"b", b"c"):
            yield frame
        await more.wait()
        yield b"d"
        yield b"e"

    pieces = []
    async for piece in gathered(source()):
        pieces.append(piece)
        more.set()
    assert pieces == [b"abc", b"de"]


async def test_a_reader_that_stops_holds_the_source_back_and_ends_it():
    made = 0
    closed = asyncio.Event()

    async def source() -> AsyncGenerator[bytes]:
        nonlocal made
        try:
            while True:
                made += 1
                yield b"x"
        finally:
            closed.set()

    async with aclosing(gathered(source())) as pieces:
        first = await anext(pieces)
        for _ in range(10):
            await asyncio.sleep(0)
        assert made <= 2 * len(first)
    assert closed.is_set()


async def test_an_error_of_the_source_comes_after_what_it_said():
    async def source() -> AsyncGenerator[bytes]:
        yield b"a"
        raise ValueError

    pieces = gathered(source())
    assert await anext(pieces) == b"a"
    with pytest.raises(ValueError):  # noqa: PT011 - it is ours
        await anext(pieces)


async def test_an_empty_source():
    async def source() -> AsyncGenerator[bytes]:
        return
        yield

    assert [piece async for piece in gathered(source())] == []


class Client:
    """The receiving end of a request whose client goes when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.goes = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        self.asked += 1
        await self.goes.wait()
        return {"type": "http.disconnect"}

    def request(self) -> Request:
        return Request({"type": "http"}, self.receive)


async def test_work_ends_when_its_client_goes():
    client, ended = Client(), asyncio.Event()

    async def work() -> int:
        try:
            client.goes.set()
            await asyncio.sleep(60)
        finally:
            ended.set()
        return 1

    assert await unless_gone(client.request(), work()) is None
    assert ended.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nobody_looks_for_the_client_of_work_that_is_quick():
    client = Client()

    async def work() -> int:
        return 1

    assert await unless_gone(client.request(), work()) == 1
    assert client.asked == 0


async def test_a_cancellation_from_elsewhere_is_passed_on():
    client = Client()

    async def work() -> int:
        await asyncio.sleep(60)
        return 1

    task = asyncio.create_task(unless_gone(client.request(), work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
