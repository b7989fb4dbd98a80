"""Bounded waiting for what a test cannot be told of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine


async def until(
    condition: Callable[[], Awaitable[object] | object], within: float = 30.0, every: float = 0.01
) -> None:
    """Return once the condition holds; it may be a coroutine function.

    Raises:
        TimeoutError: it did not hold `within` seconds.
    """
    async with asyncio.timeout(within):
        while True:
            found = condition()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return
            await asyncio.sleep(every)


async def go_when(begun: Callable[[], object], request: Coroutine[object, object, object]) -> None:
    """Send a request and go away without its answer, once it has begun."""
    going = asyncio.ensure_future(request)
    await until(begun)
    going.cancel()
    await asyncio.wait([going])
