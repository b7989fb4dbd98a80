"""The usage facts of stateless completions on their way into the log, several at a time.

A client has its answer when its fact comes here, so nothing waits but the bill: what comes within
`WINDOW` is stored together. A worker that is killed loses what is here; one that is told to stop
writes it down first.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from shared.bus.batches import MOST, Entry, append_all
from shared.bus.connect import Bus
from shared.errors import MillraceError, Transient

WINDOW = 0.05
"""Seconds for which a fact waits for others."""
BACKLOG = 10_000
"""Facts that may wait for a broker that stores nothing; nobody is answered beyond them."""


class Books:
    """What is to be charged. `patience` is how many seconds one attempt to store it may take."""

    def __init__(self, bus: Bus, *, backlog: int = BACKLOG, patience: float = 30.0) -> None:
        self._bus, self._backlog, self._patience = bus, backlog, patience
        self._waiting: list[Entry] = []
        self._enough = asyncio.Event()
        self._stopping = False
        self._writing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def check(self) -> None:
        """Let one more be answered.

        Raises:
            Transient: `usage_backlog`: it could not be charged.
        """
        if len(self._waiting) >= self._backlog:
            detail = f"the usage of {len(self._waiting)} completions waits to be stored"
            raise Transient("usage_backlog", detail, retry_after=1.0)

    def enter(self, entry: Entry) -> None:
        """Have it stored."""
        self._waiting.append(entry)
        if len(self._waiting) >= MOST:
            self._enough.set()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def stop(self, grace: float) -> None:
        """Store what waits at once; give it `grace` seconds."""
        self._stopping = True
        self._enough.set()
        if (writing := self._writing) is not None:
            await asyncio.wait([writing], timeout=grace)
            writing.cancel()
        if self._waiting:
            self._bus.log.error("usage.lost", completions=len(self._waiting))

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                await self._store(self._waiting[:MOST])
        finally:
            self._writing = None

    async def _gather(self) -> None:
        if len(self._waiting) >= MOST or self._stopping:
            return
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(WINDOW):
                await self._enough.wait()

    async def _store(self, group: list[Entry]) -> None:
        """What a broker that is away does not take stays the first in line."""
        try:
            await append_all(self._bus, group, patience=self._patience)
        except Transient as error:
            self._bus.log.warning("usage.waits", completions=len(self), error=error.code)
            return
        except MillraceError as error:
            self._bus.log.error("usage.refused", completions=len(group), error=error.code)
        del self._waiting[: len(group)]
