"""A publication until it is acknowledged, for a client that has no log to begin again from.

A service that gets no acknowledgement gives its message back and is handed it again. A client's
caller has only the error, so what a short wait would mend is mended here: a disk that hangs for
seconds, a cluster between two leaders, a server that starts again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.clock import monotonic
from shared.errors import Transient

WITHIN = 10.0
"""Seconds after which no further attempt is begun."""
_PAUSE = 0.2


async def until_acknowledged[T](publish: Callable[[], Awaitable[T]]) -> T:
    """Call `publish` until it answers; a repetition must be harmless, by its message id say.

    Raises:
        Transient: what the last attempt raised. None begins later than `WITHIN` after the first.
        Permanent, Broken: at once.
    """
    end = monotonic() + WITHIN
    while True:
        try:
            return await publish()
        except Transient:
            if monotonic() + _PAUSE > end:
                raise
        await asyncio.sleep(_PAUSE)
