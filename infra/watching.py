"""Work that others keep watch over while it goes on: what one of them raises ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable

Watch = Coroutine[None, None, None]


async def under_watch(work: Watch, watches: Iterable[Watch]) -> None:
    """Return when all have ended; whoever cancels this waits until none of them runs any more.

    Raises:
        Exception: of whoever failed first, as it was raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for one in (*watches, work):
                group.create_task(one)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
