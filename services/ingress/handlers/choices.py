"""Several completions at once, as the one stream of events that a client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from shared.contracts.tokens import DirectEvent

Events = AsyncGenerator[DirectEvent]


async def interleaved(streams: Sequence[Events]) -> AsyncGenerator[tuple[int, DirectEvent]]:
    """The events of all streams as they come, each with the number of its stream.

    The first error ends all of them. Closing it closes them, which aborts what still runs.
    """
    if len(streams) == 1:  # by far the most: without a task per event
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield 0, event
        return
    upcoming = {_next(stream): index for index, stream in enumerate(streams)}
    try:
        while upcoming:
            ready, _ = await asyncio.wait(upcoming, return_when=asyncio.FIRST_COMPLETED)
            for future in sorted(ready, key=lambda one: upcoming[one]):
                index = upcoming.pop(future)
                found = future.result()
                if found is not None:
                    upcoming[_next(streams[index])] = index
                    yield index, found
    finally:
        for future in upcoming:
            future.cancel()
        await asyncio.gather(*upcoming, return_exceptions=True)
        for stream in streams:
            await stream.aclose()


def _next(stream: Events) -> asyncio.Future[DirectEvent | None]:
    return asyncio.ensure_future(anext(stream, None))
