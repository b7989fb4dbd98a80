"""A loop that stands still ends its process; one that is only busy does not."""

from __future__ import annotations

import asyncio
import threading

from services.inference.adapters.loop_guard import LoopGuard


async def test_a_loop_that_stands_still_is_found() -> None:
    found = threading.Event()
    with LoopGuard(3, found.set, 0.01):
        await asyncio.sleep(0)
        assert found.wait(10)


async def test_a_loop_that_turns_is_left_alone() -> None:
    found = threading.Event()
    with LoopGuard(1000, found.set, 0.01):
        for _ in range(20):
            await asyncio.sleep(0.01)
    assert not found.is_set()


async def test_a_guard_that_was_left_looks_no_more() -> None:
    found = threading.Event()
    with LoopGuard(2, found.set, 0.01) as guard:
        await asyncio.sleep(0)
    guard._thread.join(5)
    assert not guard._thread.is_alive()
    assert not found.is_set()
