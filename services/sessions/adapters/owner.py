"""Owns the reading of RUNS for the loop: where to begin, what is settled, where to go on.

The consumer lives in the server's memory. Its place is kept in a checkpoint (KV `checkpoints`):
the sequence below which everything is settled, and the sessions that had something to do then.
Whoever starts next decides anew for those sessions and reads on from that sequence.
"""

from __future__ import annotations

import asyncio
import contextlib

import nats.errors
from nats.aio.msg import Msg

from services.sessions.handlers import Sessions
from shared.bus import topology
from shared.bus.burial import Delivery, delivery_of, publish_dead
from shared.bus.connect import ApiError, Bus
from shared.bus.kv import KeyValue
from shared.bus.log import RunLog
from shared.bus.pull import Pull
from shared.bus.service import ensure_patiently
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.facts import Done
from shared.contracts.log import Malformed, StoredFact, read_fact
from shared.errors import Failure, Permanent, Transient
from shared.subjects import CHECKPOINTS, SESSIONS

KEY = "sessions"
_EVERY = 2.0
TRIES = 3
"""Times that a fact may arrive and never be settled; a fold that fails would fail for ever."""


class Checkpoint(Message, frozen=True):
    """Everything up to `seq` is settled; `unfinished` sessions have more to do."""

    seq: int = 0
    unfinished: tuple[SessionRef, ...] = ()


class Owner:
    """The reading end of the session loop."""

    def __init__(self, bus: Bus, sessions: Sessions) -> None:
        self._bus, self._sessions = bus, sessions
        self._kv = KeyValue(bus, CHECKPOINTS)
        self._log = RunLog(bus)
        self._open: set[int] = set()
        self._unsettled: dict[int, int] = {}
        self._highest = 0
        self._saved = Checkpoint()
        self._pull = Pull(bus, SESSIONS, self._receive, self._prepare, room=512)
        self._saver: asyncio.Task[None] | None = None

    @property
    def floor(self) -> int:
        """The sequence up to which everything is settled."""
        return min(self._open) - 1 if self._open else self._highest

    async def start(self) -> None:
        """Take over from whoever ran before."""
        entry = await self._kv.get(KEY)
        self._saved = decode(entry.value, Checkpoint) if entry else Checkpoint()
        self._highest = self._saved.seq
        await topology.delete_consumer(self._bus, SESSIONS)
        await self._pull.start()
        self._bus.on_reconnect(self._recover)
        await self._sessions.redrive(list(self._saved.unfinished))
        self._saver = asyncio.create_task(self._save_often())

    async def stop(self) -> None:
        """Stop reading, finish what is in hand, keep the place."""
        await self._pull.stop()
        if self._saver is not None:
            self._saver.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sessions.drain(), 10)
        with contextlib.suppress(Transient):  # the place that was kept before is as good
            await self._save()

    async def _prepare(self) -> None:
        """(Re-)create the consumer behind what is settled; an existing one keeps its place."""
        start = self.floor + 1
        self._unsettled.clear()  # what comes again now comes again for another reason
        try:
            await topology.ensure_consumer(self._bus, SESSIONS, start)
        except ApiError:
            await topology.delete_consumer(self._bus, SESSIONS)
            await topology.ensure_consumer(self._bus, SESSIONS, start)

    async def _recover(self) -> None:
        """The broker was away: what it held in memory (work, this consumer) may be lost."""
        await ensure_patiently(self._bus)
        unfinished = {*self._sessions.unfinished(), *self._saved.unfinished}
        await self._sessions.redrive(sorted(unfinished))

    async def _receive(self, message: Msg) -> None:
        seq = message.metadata.sequence.stream
        self._highest = max(self._highest, seq)
        self._open.add(seq)
        self._unsettled[seq] = self._unsettled.get(seq, 0) + 1

        async def settle(done: bool) -> None:
            self._unsettled.pop(seq, None)
            with contextlib.suppress(nats.errors.Error):  # redelivered after the reconnect
                if done:
                    self._open.discard(seq)
                    await message.ack()
                else:
                    await message.nak(delay=1.0)

        arrived = delivery_of(message)
        try:
            stored = await self._read(arrived)
            if stored is not None and self._unsettled.get(seq, 0) > TRIES:
                await self._poison(arrived, stored)
                stored = None
        except Transient:
            await settle(False)
            return
        if stored is None:
            await settle(True)
            return
        await self._sessions.on_fact(stored, settle)

    async def _read(self, arrived: Delivery) -> StoredFact | None:
        """The fact, None where the loop has nothing to do with it. What is no fact is buried."""
        try:
            stored = read_fact(
                arrived.subject, arrived.body, arrived.sequence, arrived.time, arrived.headers
            )
        except Permanent as error:
            await publish_dead(self._bus, KEY, arrived, error.as_failure())
            return None
        if stored is not None and isinstance(stored.fact, Malformed):
            # it still reaches the session, which answers with a typed failure
            await publish_dead(self._bus, KEY, arrived, stored.fact.error)
        return None if stored is None or stored.kind == "completed" else stored

    async def _poison(self, arrived: Delivery, stored: StoredFact) -> None:
        """The loop cannot get over this fact: bury it, and end its task instead of hanging."""
        error = Failure(
            code="tries_exhausted",
            family="broken",
            detail=f"the loop met this {stored.kind} {TRIES} times and came to no end",
        )
        self._bus.log.error("fact.poison", subject=arrived.subject, seq=arrived.sequence)
        await publish_dead(self._bus, KEY, arrived, error)
        if stored.task and stored.kind != "done":
            await self._log.append(stored.ref, Done(task=stored.task, status="failed", error=error))

    async def _save_often(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            with contextlib.suppress(Transient):
                await self._save()

    async def _save(self) -> None:
        state = Checkpoint(seq=self.floor, unfinished=tuple(self._sessions.unfinished()))
        if state != self._saved:
            await self._kv.put(KEY, encode(state))
            self._saved = state
