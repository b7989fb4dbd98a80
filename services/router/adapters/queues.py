"""Looks every few seconds at what waits in the broker, for all services: nobody else counts that.

Each router looks for itself; whoever reads the metrics takes the highest of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import nats.errors

from shared.bus.connect import ApiError, Bus
from shared.clock import now
from shared.errors import Transient
from shared.metrics.catalogue import (
    QUEUE_TAKEN,
    QUEUE_WAITING,
    QUEUES_SEEN,
    STREAM_BYTES,
    STREAM_BYTES_LIMIT,
    STREAM_COPIES,
    STREAM_COPIES_CURRENT,
    STREAM_COPY_LAG,
    STREAM_LAST_SEQUENCE,
    STREAM_LEADER,
    STREAM_MESSAGES,
)
from shared.metrics.kinds import Values
from shared.subjects import DEAD, DOCS, RUNS, STREAMS, TIMERS, WORK, queue_of

EVERY = 5.0
_READ = (RUNS, WORK, TIMERS, DOCS, DEAD)
"""Streams with durable readers; the others have none, or viewers."""
Info = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Copies:
    """Where a stream is: who leads it, how many servers have all of it, how far the last is."""

    leader: str
    current: int
    lag: int


def copies_of(info: Info) -> Copies:
    """From what the broker says of a stream; a server that is gone counts with what it missed."""
    cluster = info.get("cluster") or {}
    leader, others = cluster.get("leader", ""), cluster.get("replicas") or ()
    current = sum(one["current"] and not one.get("offline", False) for one in others)
    lag = max((one.get("lag", 0) for one in others), default=0)
    return Copies(leader, current + bool(leader), lag)


class Queues:
    """The lag of every queue, and what the streams hold."""

    def __init__(self, bus: Bus, every: float = EVERY) -> None:
        self._bus, self._every = bus, every
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._often())

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _often(self) -> None:
        while True:
            try:
                await self.look()
            except (Transient, ApiError, nats.errors.Error) as error:
                self._bus.log.info("queues.unseen", error=str(error))
            await asyncio.sleep(self._every)

    async def look(self) -> None:
        """Once.

        Raises:
            Transient, ApiError: the broker does not tell.
        """
        waiting: Counter[tuple[str, ...]] = Counter()
        taken: Counter[tuple[str, ...]] = Counter()
        for stream in _READ:
            async for one in self._consumers(stream):
                queue = (stream, queue_of(one["name"]))
                waiting[queue] += one["num_pending"]
                taken[queue] += one["num_ack_pending"]
        QUEUE_WAITING.replace(dict(waiting))
        QUEUE_TAKEN.replace(dict(taken))
        await self._streams()
        QUEUES_SEEN.set(now())

    async def _streams(self) -> None:
        leaders: dict[Values, float] = {}
        for row in STREAMS:
            found = await self._bus.api(f"STREAM.INFO.{row.name}")
            state, limit = found["state"], found["config"]["max_bytes"]
            STREAM_MESSAGES.set(state["messages"], row.name)
            STREAM_BYTES.set(state["bytes"], row.name)
            STREAM_LAST_SEQUENCE.set(state["last_seq"], row.name)
            if limit > 0:
                STREAM_BYTES_LIMIT.set(limit, row.name)
            copies = copies_of(found)
            STREAM_COPIES.set(found["config"]["num_replicas"], row.name)
            STREAM_COPIES_CURRENT.set(copies.current, row.name)
            STREAM_COPY_LAG.set(copies.lag, row.name)
            if copies.leader:
                leaders[row.name, copies.leader] = 1
        STREAM_LEADER.replace(leaders)

    async def _consumers(self, stream: str) -> AsyncGenerator[Info]:
        offset, total = 0, 1
        while offset < total:
            answer = await self._bus.api(f"CONSUMER.LIST.{stream}", {"offset": offset})
            page = answer["consumers"] or ()
            for one in page:
                yield one
            offset += len(page)
            total = answer["total"] if page else 0
