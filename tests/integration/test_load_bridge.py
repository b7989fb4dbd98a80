"""Greenlets and the event loop's thread: results, errors and cancellation cross over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import gevent
import pytest

from loadtests.drive.bridge import Bridge

pytestmark = pytest.mark.integration


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge() as found:
        yield found


async def thread() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


async def fail() -> None:
    await asyncio.sleep(0)
    raise LookupError("no")


def test_work_is_done_in_another_thread_and_its_result_comes_back(bridge: Bridge) -> None:
    assert bridge.call(thread()) != threading.get_ident()


def test_an_error_comes_back_as_it_is(bridge: Bridge) -> None:
    with pytest.raises(LookupError, match="no"):
        bridge.call(fail())


def test_many_greenlets_wait_at_the_same_time(bridge: Bridge) -> None:
    together = asyncio.Barrier(20)

    async def meet(number: int) -> int:
        await together.wait()  # nobody gets on before all are here
        return number

    waiting = [gevent.spawn(bridge.call, meet(number)) for number in range(20)]
    gevent.joinall(waiting, raise_error=True)
    assert [one.value for one in waiting] == list(range(20))


def test_a_greenlet_that_is_killed_cancels_its_work(bridge: Bridge) -> None:
    ended: list[str] = []
    running = asyncio.Event()

    async def wait_for_ever() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    waiting = gevent.spawn(bridge.call, wait_for_ever())
    gevent.sleep(0)
    bridge.call(running.wait())
    waiting.kill()
    bridge.call(asyncio.sleep(0))
    assert ended == ["cancelled"]
