"""One subscription to a part of the feed, shared by all who watch a session of that part.

The server republishes each fact and each token delta of a session as `feed.<...>`, each stream in
its order; a delta may overtake a fact, since they are in two. A lane hears a part of that: one
session, or a partition of all sessions. What nobody watches is dropped by its subject, undecoded
(ADR 0024 has the figures).

A lane is a place in the log as well: what it may have missed (a lost connection, a server that
changed its leader) is read from there, once for all its viewers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connect import Bus
from shared.bus.log import DIRECT_RUNS, Page, fact_of, last_message, parse_time
from shared.bus.viewer import Item, Viewer
from shared.contracts.base import SessionRef, decode
from shared.contracts.tokens import TokenDelta
from shared.errors import Permanent, Transient
from shared.subjects import DELTA, RUNS, feed_filter

_PAGES = 5
"""Thousands of facts that are handed over after an interruption; behind that each viewer reads on
by itself, in its own session."""
_PAUSES = (0.1, 0.5, 1.0)
"""Seconds between tries to read the log of a server that is away for a moment."""


class Lane:
    """Viewers by session, and what they hear. `facts` is the part, as a filter of RUNS."""

    def __init__(self, bus: Bus, facts: str) -> None:
        self._bus, self._facts = bus, facts
        self._viewers: dict[SessionRef, set[Viewer]] = {}
        self._subscription: Subscription | None = None
        self._busy = asyncio.Lock()
        self._seen = 0
        self._connection = 0
        """Counts the reconnects: what happened between two connections is in the log only."""

    @property
    def watched(self) -> int:
        """How many viewers there are."""
        return sum(map(len, self._viewers.values()))

    def add(self, ref: SessionRef, viewer: Viewer) -> None:
        """From now on it is offered what happens in its session."""
        self._viewers.setdefault(ref, set()).add(viewer)

    def remove(self, ref: SessionRef, viewer: Viewer) -> None:
        """It went."""
        viewers = self._viewers[ref]
        viewers.discard(viewer)
        if not viewers:
            del self._viewers[ref]

    async def open(self) -> None:
        """Subscribe, where that is not done yet; everything later is heard when this returns.

        Raises:
            Transient: `bus_unavailable`.
        """
        if self._subscription is not None and not self._busy.locked():
            return
        async with self._busy:
            if self._subscription is None:
                self._subscription = await self._subscribed()

    async def _subscribed(self) -> Subscription:
        self._connection = self._reconnects
        try:
            subscription = await self._bus.nc.subscribe(
                feed_filter(self._facts), cb=self._heard, pending_bytes_limit=0
            )
            await self._bus.nc.flush()
        except nats.errors.Error as error:
            raise Transient("bus_unavailable", type(error).__name__) from error
        try:
            newest = await last_message(self._bus, RUNS, self._facts)
        except Transient:
            await _ended(subscription)
            raise
        self._seen = 0 if newest is None else _sequence(newest)
        return subscription

    async def close(self) -> None:
        """Hear nothing more."""
        if self._subscription is not None:
            await _ended(self._subscription)
            self._subscription = None

    async def catch_up(self) -> None:
        """Hand over what the log holds and this lane has not heard; what comes live waits."""
        async with self._busy:
            for pause in _PAUSES:
                connection = self._reconnects
                try:
                    whole = await self._read_on()
                except Transient:
                    await asyncio.sleep(pause)
                    continue
                if not whole:
                    for viewers in self._viewers.values():
                        _all_fall_behind(viewers)
                self._connection = connection
                return
            self._connection = -1  # with the next message, reconnect or look it is tried again

    async def _read_on(self) -> bool:
        """Whether that was all."""
        page = Page(DIRECT_RUNS, self._facts, self._seen)
        for _ in range(_PAGES):
            for message in await page.read(self._bus):
                await self._fact((message.headers or {}).get("Nats-Subject", ""), message)
            if page.ended:
                return True
        newest = await last_message(self._bus, RUNS, self._facts)
        self._seen = max(self._seen, 0 if newest is None else _sequence(newest))
        return False

    async def _heard(self, message: Msg) -> None:
        """A message of the feed: `feed.<partition>.<tenant>.<session>.<kind>[.<rest>]`.

        Most of them are for nobody here. The subject says so, and nothing else is looked at but
        the sequence.
        """
        if self._connection != self._reconnects:
            await self.catch_up()
        elif self._busy.locked():
            async with self._busy:
                pass
        parts = message.subject.split(".", 5)
        if len(parts) < 5 or parts[4] != DELTA:
            await self._fact(message.subject, message)
        elif viewers := self._viewers.get(SessionRef(parts[2], parts[3])):
            _offer(viewers, delta_of(message))

    async def _fact(self, subject: str, message: Msg) -> None:
        self._seen = max(self._seen, _sequence(message))
        parts = subject.split(".", 4)
        viewers = self._viewers.get(SessionRef(parts[2], parts[3])) if len(parts) == 5 else None
        if not viewers:
            return
        try:
            _offer(viewers, await fact_of(self._bus, message))
        except Transient:  # its body lies elsewhere, and cannot be had now
            _all_fall_behind(viewers)

    @property
    def _reconnects(self) -> int:
        return self._bus.nc.stats["reconnects"]


def _offer(viewers: Iterable[Viewer], item: Item | None) -> None:
    if item is not None:
        for viewer in viewers:
            viewer.offer(item)


def _all_fall_behind(viewers: Iterable[Viewer]) -> None:
    for viewer in viewers:
        viewer.fall_behind()


def _sequence(message: Msg) -> int:
    return int((message.headers or {}).get("Nats-Sequence", 0))


def delta_of(message: Msg) -> tuple[TokenDelta, float] | None:
    """The delta in a message, and its time; None for what is none: the fact brings the text."""
    try:
        delta = decode(message.data, TokenDelta)
    except Permanent:
        return None
    return delta, parse_time((message.headers or {}).get("Nats-Time-Stamp", ""))


async def _ended(subscription: Subscription) -> None:
    try:
        await subscription.unsubscribe()
    except nats.errors.Error:
        return  # the connection is closed, and the subscription with it
