"""Follows sessions live: catches up from the log, then stays on the republished subjects.

Viewers of one session share one subscription. A viewer can never slow a producer: its queue is
bounded, and one that falls behind reads on from the log, where nothing is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connect import Bus
from shared.bus.log import RunLog, direct_get, fact_of, parse_time
from shared.contracts.base import SessionRef, decode
from shared.contracts.log import Event, StoredFact
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent, Transient
from shared.events import Merger, parse_cursor
from shared.subjects import TOKENS, session_filter

_QUEUE, _RESYNC_AFTER = 1000, 10.0
Item = StoredFact | tuple[TokenDelta, float]


@dataclass(eq=False)
class _Viewer:
    queue: asyncio.Queue[Item | None] = field(default_factory=lambda: asyncio.Queue(_QUEUE))
    lagging: bool = False

    def offer(self, item: Item | None) -> None:
        """Hand over an item; None asks for a look at the log."""
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            self.lagging = True

    def drain(self) -> None:
        self.lagging = False
        while not self.queue.empty():
            self.queue.get_nowait()


@dataclass(eq=False)
class _Channel:
    viewers: set[_Viewer] = field(default_factory=set)
    subscriptions: list[Subscription] = field(default_factory=list)
    connection: int = 0
    """Counts the reconnects: what happened between two connections is in the log only."""

    def offer(self, item: Item, connection: int) -> None:
        for viewer in self.viewers:
            viewer.lagging |= connection != self.connection
            viewer.offer(item)
        self.connection = connection


class Feed:
    """All the viewers of this process."""

    def __init__(self, bus: Bus, log: RunLog) -> None:
        self._bus, self._log = bus, log
        self._channels: dict[SessionRef, _Channel] = {}
        bus.on_reconnect(self._resync_all)

    async def follow(
        self, ref: SessionRef, after: str = "", *, follow: bool = True
    ) -> AsyncGenerator[Event]:
        """The events of a session after a cursor: the recorded ones, then live ones for ever.

        With `follow` off it ends where the log ends.

        Raises:
            Permanent: `invalid_cursor`.
            Transient: `bus_unavailable` while the first look at the log fails.
        """
        merger = Merger(parse_cursor(after))
        if not follow:
            for event in await self._recorded(ref, merger):
                yield event
            return
        if merger.seq:
            merger.learn(await self._log.turns(ref, merger.seq))
        async with self._viewing(ref) as viewer:
            for event in await self._recorded(ref, merger):
                yield event
            for event in await self._spoken(ref, merger):
                yield event
            while True:
                for event in await self._next(ref, viewer, merger):
                    yield event

    async def _next(self, ref: SessionRef, viewer: _Viewer, merger: Merger) -> list[Event]:
        """Wait for something to happen; look at the log when a while passes or much was missed."""
        item: Item | None = None
        try:
            async with asyncio.timeout(_RESYNC_AFTER):
                item = await viewer.queue.get()
        except TimeoutError:
            item = None
        if viewer.lagging:
            viewer.drain()
            item = None
        if item is None:
            try:
                return await self._recorded(ref, merger)
            except Transient:
                await asyncio.sleep(0.2)
                viewer.lagging = True  # what comes live must not hide what is missing
                viewer.offer(None)
                return []
        if isinstance(item, StoredFact):
            return merger.fact(item)
        return merger.delta(*item)

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
        items = [item for message in messages if (item := _delta(message)) is not None]
        return [event for item in items for event in merger.delta(*item)]

    @asynccontextmanager
    async def _viewing(self, ref: SessionRef) -> AsyncIterator[_Viewer]:
        viewer = _Viewer()
        channel = self._channels.setdefault(ref, _Channel())
        channel.viewers.add(viewer)
        try:
            if not channel.subscriptions:
                await self._open(ref, channel)
            yield viewer
        finally:
            channel.viewers.discard(viewer)
            if not channel.viewers and self._channels.get(ref) is channel:
                del self._channels[ref]
                for subscription in channel.subscriptions:
                    await _end(subscription)

    async def _open(self, ref: SessionRef, channel: _Channel) -> None:
        async def on_fact(message: Msg) -> None:
            fact = await fact_of(self._bus, message)
            if fact is not None:
                channel.offer(fact, self._connection)

        async def on_delta(message: Msg) -> None:
            item = _delta(message)
            if item is not None:
                channel.offer(item, self._connection)

        facts = session_filter(ref).replace("run.", "facts.", 1)
        live = f"live.{ref.tenant}.{ref.session}.>"
        channel.connection = self._connection
        try:
            for subject, callback in ((facts, on_fact), (live, on_delta)):
                channel.subscriptions.append(
                    await self._bus.nc.subscribe(subject, cb=callback, pending_bytes_limit=0)
                )
            await self._bus.nc.flush()
        except nats.errors.Error as error:
            raise Transient("bus_unavailable", type(error).__name__) from error

    @property
    def _connection(self) -> int:
        return self._bus.nc.stats["reconnects"]

    async def _resync_all(self) -> None:
        for channel in self._channels.values():
            for viewer in channel.viewers:
                viewer.lagging = True
                viewer.offer(None)


def _delta(message: Msg) -> tuple[TokenDelta, float] | None:
    try:
        delta = decode(message.data, TokenDelta)
    except Permanent:
        return None  # not ours; the fact brings the text
    return delta, parse_time((message.headers or {}).get("Nats-Time-Stamp", ""))


async def _end(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        return  # the connection is closed, and the subscription with it
