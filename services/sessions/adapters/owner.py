"""Decides which partitions this process owns: takes over, hands on, keeps their places.

The partitions are shared among the members that are there (`core.shares`). What shall be ours is
claimed once the one before has handed it on or is gone; what shall be another's is handed on.
Two owners of one partition at once do no harm (facts fold once, decisions have derived ids); all
this is for speed, and so that one that was stopped for a while does not act on what it knew.
"""

from __future__ import annotations

import asyncio
import contextlib

import nats.errors

from services.sessions.adapters.members import Members
from services.sessions.adapters.partition import Checkpoint, Owning, Partition, checkpoint_key
from services.sessions.core.shares import shares
from services.sessions.handlers import Sessions
from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.bus.service import ensure_patiently
from shared.clock import monotonic
from shared.errors import Permanent, Transient
from shared.metrics.catalogue import PARTITIONS_HELD, SESSIONS_ACTIVE
from shared.subjects import CHECKPOINTS, PARTITIONS

_EVERY, _LOOK, _PAUSE = 2.0, 0.25, 0.05
PATIENCE = 8.0
"""Seconds that an owner which is there has to hand on what is not its share any more."""
STOP_WITHIN = 6.0


class Owner:
    """The reading end of the session loop."""

    def __init__(self, bus: Bus, sessions: Sessions) -> None:
        self._bus, self._sessions = bus, sessions
        self._wake = asyncio.Event()
        self.members = Members(bus, self._wake.set, self._lose_all)
        owning = Owning(self.members.id, lambda: self.members.fresh, self._wake.set)
        self._partitions = [Partition(bus, n, sessions, owning) for n in range(PARTITIONS)]
        self._by_key = {checkpoint_key(one.number): one for one in self._partitions}
        self._wanted_since: dict[int, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        sessions.fence(self.owns)

    def owns(self, partition: int) -> bool:
        """Whether this process may act for a partition now."""
        return self._partitions[partition].held and self.members.fresh

    def held(self) -> list[int]:
        """The partitions that are ours."""
        return [one.number for one in self._partitions if one.held]

    async def start(self) -> None:
        """Join the others, and take over what is free of our share."""
        await KeyValue(self._bus, CHECKPOINTS).watch(self._noticed)
        await self.members.start()
        await self._balance()
        self._bus.on_reconnect(self._recover)
        self._tasks = [
            asyncio.create_task(self._balance_often()),
            asyncio.create_task(self._save_often()),
        ]

    async def stop(self) -> None:
        """Hand on everything, within a bound; what is not handed on in time is taken over."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await self.members.leave()
                await asyncio.gather(*(one.release() for one in self._partitions if one.held))
        for one in self._partitions:
            await one.drop()
        await self.members.stop()

    def _lose_all(self) -> None:
        """This process was cut off or stopped: others may have taken over since."""
        for one in self._partitions:
            one.lose()
        self._wake.set()

    async def _recover(self) -> None:
        """The broker was away: what it held in memory (work, consumers) may be lost, so everything

        begins again from the checkpoints.
        """
        await ensure_patiently(self._bus)
        self._lose_all()
        await self.members.beat()

    async def _noticed(self, entry: Entry) -> None:
        one = self._by_key.get(entry.key)
        if one is not None and entry.value:
            one.noticed(entry)
            if not one.held:
                self._wake.set()  # it may have been handed on, to us

    async def _balance_often(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK if self._wanted_since else None)
            self._wake.clear()
            try:
                await self._balance()
            except (Transient, Permanent, nats.errors.Error) as error:
                self._bus.log.warning("partitions.retry", error=str(error))
                self._wake.set()
                await asyncio.sleep(_LOOK)
            await asyncio.sleep(_PAUSE)  # sixteen notices are one reason to look

    async def _balance(self) -> None:
        """One step towards the share of each member."""
        await asyncio.gather(*(one.drop() for one in self._partitions if one.left))
        wanted = shares(self.members.working())
        ours = [one for one in self._partitions if wanted.get(one.number) == self.members.id]
        too_many = [one for one in self._partitions if one.held and one not in ours]
        missing = [one for one in ours if not one.held]
        now = monotonic()
        since = self._wanted_since
        self._wanted_since = {one.number: since.get(one.number, now) for one in missing}
        steps = [*(one.release() for one in too_many), *(self._take(one) for one in missing)]
        for outcome in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if too_many or any(one.held for one in missing):
            self._bus.log.info("partitions.changed", held=self.held())

    async def _take(self, one: Partition) -> None:
        if not self.members.fresh:
            return
        found = await one.look()
        waited = monotonic() - self._wanted_since[one.number]
        if self._in_use(found) and waited < PATIENCE:
            return
        if await one.claim(found):
            self._wanted_since.pop(one.number, None)

    def _in_use(self, found: Checkpoint) -> bool:
        """Another one has it and is there: it hands it on in a moment."""
        owner = found.owner
        return bool(owner) and owner != self.members.id and self.members.alive(owner)

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            for one, place in self._places():
                try:
                    await one.save(place)
                except (Transient, Permanent) as error:
                    self._bus.log.info("checkpoint.later", partition=one.number, error=str(error))

    def _places(self) -> list[tuple[Partition, Checkpoint]]:
        unfinished = self._sessions.unfinished()
        held = [one for one in self._partitions if one.held]
        PARTITIONS_HELD.set(len(held))
        SESSIONS_ACTIVE.set(sum(len(unfinished.get(one.number, ())) for one in held))
        return [(one, one.place(unfinished.get(one.number, ()))) for one in held]
