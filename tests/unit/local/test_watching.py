"""Whoever keeps watch ends with the work, and nobody is left to be found by the end of the loop."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from infra.watching import under_watch


class Watcher:
    """Watches for ever; takes its time to end."""

    def __init__(self) -> None:
        self.began, self.ended = asyncio.Event(), False

    async def watch(self) -> None:
        try:
            self.began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


@pytest.fixture
def complaints() -> list[dict[str, Any]]:
    """What the loop says of things that nobody has looked at."""
    return []


async def hear(complaints: list[dict[str, Any]]) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: complaints.append(what))


async def test_a_stop_in_the_middle_of_the_work_leaves_nobody_and_says_nothing(
    complaints: list[dict[str, Any]],
) -> None:
    await hear(complaints)
    one, work = Watcher(), Watcher()
    whole = asyncio.create_task(under_watch(work.watch(), [one.watch()]))
    await one.began.wait()
    await work.began.wait()
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert (one.ended, work.ended) == (True, True)
    del whole
    gc.collect(1)  # they are young; a whole collection of a test process takes seconds
    assert complaints == []


async def test_what_a_watch_raises_ends_the_work_as_itself() -> None:
    work = Watcher()

    async def fails() -> None:
        await work.began.wait()
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await under_watch(work.watch(), [fails()])
    assert work.ended


async def test_it_goes_on_after_the_work_until_nobody_watches() -> None:
    done, seen = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        done.set()

    async def watch() -> None:
        await done.wait()
        await asyncio.sleep(0)
        seen.set()

    await under_watch(work(), [watch()])
    assert seen.is_set()
