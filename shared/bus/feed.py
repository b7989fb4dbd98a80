"""Follows sessions live: catches up from the log, then stays on the republished subjects.

All viewers of a process share a few subscriptions (`lane`). A viewer can never slow a producer: its
inbox is bounded, and one that falls behind reads on from the log, where nothing is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from shared.bus.connect import Bus
from shared.bus.lane import Lane, delta_of
from shared.bus.log import RunLog, direct_get
from shared.bus.viewer import Item, Viewer
from shared.contracts.base import SessionRef
from shared.contracts.log import Event, StoredFact
from shared.errors import Transient
from shared.events import Cursor, Merger, parse_cursor
from shared.subjects import TOKENS, partition_filter, session_filter

_LOOK = 10.0
"""Seconds between looks at the log, one per lane: the server may have lost what it republished."""
_PAUSE = 0.2


class Feed:
    """All the viewers of this process.

    A client hears the sessions that it watches, one lane each. A process that many clients look
    through is `shared`: it hears whole partitions, so that its subscriptions are few whatever is
    watched, and the server does not know its viewers.
    """

    def __init__(self, bus: Bus, log: RunLog, *, shared: bool = False) -> None:
        self._bus, self._log, self._shared = bus, log, shared
        self._lanes: dict[str, Lane] = {}
        self._idle: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        bus.on_reconnect(self._catch_up)

    @property
    def viewers(self) -> int:
        """How many follow live now."""
        return sum(lane.watched for lane in self._lanes.values())

    @property
    def subscriptions(self) -> int:
        """How many there are on the bus for them."""
        return len(self._lanes)

    async def follow(
        self, ref: SessionRef, after: str = "", *, begin: int = 0, follow: bool = True
    ) -> AsyncGenerator[Event]:
        """The events of a session after a cursor: the recorded ones, then live ones for ever.

        Without a cursor they begin behind the sequence `begin`. With `follow` off they end where
        the log ends.

        Raises:
            Permanent: `invalid_cursor`, also for a place in another session.
            Transient: `bus_unavailable` while the first look at the log fails.
        """
        merger = await self._merger(ref, after, begin)
        if not follow:
            for event in await self._recorded(ref, merger):
                yield event
            return
        async with self._viewing(ref) as viewer:
            for event in [*await self._recorded(ref, merger), *await self._spoken(ref, merger)]:
                yield event
            while True:
                for event in await self._next(ref, viewer, merger):
                    yield event

    async def _merger(self, ref: SessionRef, after: str, begin: int) -> Merger:
        merger = Merger(parse_cursor(after) if after else Cursor(begin))
        if after:
            await self._log.check_place(ref, merger.seq)
        if merger.seq:
            merger.learn(await self._log.turns(ref, merger.seq))
        return merger

    async def _next(self, ref: SessionRef, viewer: Viewer, merger: Merger) -> list[Event]:
        """Wait for something to happen; look at the log where something was missed."""
        items = await viewer.take()
        if items is not None:
            return [event for item in items for event in _merged(merger, item)]
        try:
            return await self._recorded(ref, merger)
        except Transient:
            await asyncio.sleep(_PAUSE)
            viewer.fall_behind()  # what comes live must not hide what is missing
            return []

    async def _recorded(self, ref: SessionRef, merger: Merger) -> list[Event]:
        stored = await self._log.read(ref, merger.seq)
        return [event for fact in stored for event in merger.fact(fact)]

    async def _spoken(self, ref: SessionRef, merger: Merger) -> list[Event]:
        """The deltas that TOKENS still holds of a step that has not ended."""
        query = {
            "batch": 10_000,
            "seq": 1,
            "next_by_subj": f"tokens.{ref.tenant}.{ref.session}.>",
        }
        try:
            messages, _ = await direct_get(self._bus, f"$JS.API.DIRECT.GET.{TOKENS}", query)
        except Transient:
            return []  # a delta that is missing here comes again with its fact
        items = [item for message in messages if (item := delta_of(message)) is not None]
        return [event for item in items for event in merger.delta(*item)]

    @asynccontextmanager
    async def _viewing(self, ref: SessionRef) -> AsyncIterator[Viewer]:
        viewer = Viewer()
        part = partition_filter(ref) if self._shared else session_filter(ref)
        lane = self._lanes.setdefault(part, Lane(self._bus, part))
        lane.add(ref, viewer)
        self._idle.discard(part)
        self._look_later()
        try:
            await lane.open()
            yield viewer
        finally:
            lane.remove(ref, viewer)
            if not lane.watched and not self._shared:
                await self._end(part, lane)

    async def _end(self, part: str, lane: Lane) -> None:
        if self._lanes.get(part) is lane:
            del self._lanes[part]
        await lane.close()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._lanes and not self._bus.nc.is_closed:
            self._looking = asyncio.create_task(self._look_around())

    async def _look_around(self) -> None:
        """Look at the log for every lane; end those that nobody watches, at the second look."""
        try:
            for part, lane in list(self._lanes.items()):
                if lane.watched:
                    await lane.catch_up()
                elif part in self._idle:
                    self._idle.discard(part)
                    await self._end(part, lane)
                else:
                    self._idle.add(part)
        finally:
            self._look_later()

    async def _catch_up(self) -> None:
        for lane in list(self._lanes.values()):
            await lane.catch_up()


def _merged(merger: Merger, item: Item) -> list[Event]:
    return merger.fact(item) if isinstance(item, StoredFact) else merger.delta(*item)
