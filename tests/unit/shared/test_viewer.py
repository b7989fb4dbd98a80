"""A viewer's inbox: bounded, and honest about what it lost."""

from __future__ import annotations

import asyncio

import pytest

from shared.bus.viewer import Viewer
from shared.contracts.tokens import TokenDelta


def item(index: int) -> tuple[TokenDelta, float]:
    return TokenDelta(task="t1", step=0, index=index, text="x"), 0.0


async def test_it_takes_what_was_offered_at_once_and_in_order():
    viewer = Viewer()
    for index in range(3):
        viewer.offer(item(index))
    assert await viewer.take() == [item(0), item(1), item(2)]


async def test_it_waits_for_the_first_item():
    viewer = Viewer()
    taking = asyncio.ensure_future(viewer.take())
    await asyncio.sleep(0)
    assert not taking.done()
    viewer.offer(item(7))
    assert await taking == [item(7)]


async def test_one_that_is_full_reads_the_log_and_goes_on():
    viewer = Viewer(most=2)
    for index in range(5):
        viewer.offer(item(index))
    assert await viewer.take() is None
    viewer.offer(item(5))
    assert await viewer.take() == [item(5)]


async def test_one_that_waits_is_woken_to_read_the_log():
    viewer = Viewer()
    taking = asyncio.ensure_future(viewer.take())
    await asyncio.sleep(0)
    viewer.fall_behind()
    assert await taking is None


async def test_one_that_stops_waiting_keeps_what_comes_later():
    viewer = Viewer()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await viewer.take()
    viewer.offer(item(1))
    assert await viewer.take() == [item(1)]
