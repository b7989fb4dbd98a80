"""One process at a time works on an index in a file (Milvus Lite); another one stands by.

The file's lock says so on this machine, and the kernel lets go of it however its holder ends. On
another machine there is another file, so whoever answers on the bus is waited for, too: two would
share the documents between two indexes. A Milvus server has room for all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

from shared.bus.connect import Bus
from shared.bus.service import stand_by

_LOOK = 0.25


@contextlib.asynccontextmanager
async def turn(bus: Bus, index: Path, stop: asyncio.Event) -> AsyncIterator[bool]:
    """Wait for this process's turn; False where it was told to stop meanwhile."""
    index.parent.mkdir(parents=True, exist_ok=True)
    with index.with_name(f"{index.name}.lock").open("a") as file:
        yield await _locked(file.fileno(), bus, stop) and await stand_by(bus, stop)


async def _locked(file: int, bus: Bus, stop: asyncio.Event) -> bool:
    told = False
    while not stop.is_set():
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not told:
                bus.log.info("retrieval.stands_by", reason="another process has the index open")
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _LOOK)
        else:
            return True
    return False
