"""One partition of RUNS and its place in it, while this process owns it.

Ownership is a claim: the owner's name in the partition's checkpoint (KV `checkpoints`), which is
only ever written against its last revision. Whoever wants the partition writes its own name there,
makes the consumer anew behind what is settled, and decides anew for the sessions that had
something to do. The one before then finds its requests void, its consumer not its own and its
checkpoint refused.

The checkpoint says below which sequence everything is settled, and which sessions had something to
do then. An old one is as right as a new one: it only means reading more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import nats.errors
from msgspec.structs import replace
from nats.aio.msg import Msg

from services.sessions.adapters.metering import LoopMeter
from services.sessions.handlers import Sessions
from shared.bus import claims, topology
from shared.bus.burial import Delivery, delivery_of, publish_dead
from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.bus.log import RunLog, body_of
from shared.bus.pull import Pull
from shared.clock import now
from shared.contracts.base import Message, SessionRef, decode, encode
from shared.contracts.facts import Done
from shared.contracts.log import Malformed, StoredFact, read_fact
from shared.errors import Failure, Permanent, Transient
from shared.subjects import CHECKPOINTS, sessions_consumer

READER = "sessions"
_ROOM = 256
TRIES = 3
"""Times that a fact may arrive and never be settled; a fold that fails would fail for ever."""
DRAIN = 3.0
"""Seconds that the sessions of a partition have to finish what is in hand, before the hand-over."""


class Checkpoint(Message, frozen=True):
    """Everything up to `seq` is settled; `unfinished` sessions have more to do."""

    seq: int = 0
    unfinished: tuple[SessionRef, ...] = ()
    owner: str = ""


def checkpoint_key(partition: int) -> str:
    """The key in KV `checkpoints`."""
    return f"sessions.{partition}"


def read_checkpoint(entry: Entry | None) -> Checkpoint:
    """The checkpoint in an entry; without a good one the log is read from its beginning."""
    if entry is None:
        return Checkpoint()
    try:
        return decode(entry.value, Checkpoint)
    except Permanent:
        return Checkpoint()


@dataclass(frozen=True, slots=True)
class Owning:
    """Who reads: its name, and whether it may act now."""

    name: str
    fresh: Callable[[], bool]
    lost: Callable[[], None]
    """Called when it turns out that another one has taken a partition."""


class Partition:
    """Reads one partition from `claim` until `release`, `drop` or the loss of it."""

    def __init__(self, bus: Bus, number: int, sessions: Sessions, owning: Owning) -> None:
        self.number = number
        self._bus, self._sessions, self._owning = bus, sessions, owning
        self._key, self._row = checkpoint_key(number), sessions_consumer(number)
        self._kv = KeyValue(bus, CHECKPOINTS)
        self._pull: Pull | None = None
        self._held = False
        self._open: set[int] = set()
        self._unsettled: dict[int, int] = {}
        self._log, self._meter = RunLog(bus), LoopMeter()
        self._highest = 0
        self._next = 1
        self._saved, self._revision = Checkpoint(), 0
        self._writing = asyncio.Lock()

    @property
    def held(self) -> bool:
        """Whether this process is the owner, as far as it knows."""
        return self._held

    @property
    def left(self) -> bool:
        """It was lost, and its reading has to be ended (`drop`)."""
        return self._pull is not None and not self._held

    @property
    def floor(self) -> int:
        """The sequence up to which everything is settled."""
        return min(self._open) - 1 if self._open else self._highest

    async def look(self) -> Checkpoint:
        """The checkpoint as it stands.

        Raises:
            Transient: `bus_unavailable`.
        """
        entry = await self._kv.get(self._key)
        if not self._held:
            self._revision = entry.revision if entry else 0
        return read_checkpoint(entry)

    async def claim(self, found: Checkpoint) -> bool:
        """Become the owner, if nobody wrote the checkpoint since it was looked at; then read.

        Raises:
            Transient: `bus_unavailable`.
        """
        mine = replace(found, owner=self._owning.name)
        try:
            self._revision = await self._kv.put(self._key, encode(mine), self._revision)
        except Permanent:  # another one was faster
            return False
        self._saved, self._held = mine, True
        self._highest, self._open = mine.seq, set()
        self._pull = Pull(self._bus, self._row, self._receive, self._prepare, room=_ROOM)
        await self._pull.start()
        await self._sessions.redrive(list(mine.unfinished))
        return True

    async def release(self) -> None:
        """Hand it on: read no more, finish what is in hand, leave the place to the next one."""
        if self._pull is not None:
            await self._pull.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sessions.drain(self.number), DRAIN)
        place = self.place(self._sessions.unfinished().get(self.number, ()))
        with contextlib.suppress(Transient, Permanent):  # the next one waits until we are gone
            await self.save(replace(place, owner=""))
        await self.drop()

    async def drop(self) -> None:
        """Forget it: another one goes on, or this one from the checkpoint."""
        self._held = False
        pull, self._pull = self._pull, None
        if pull is not None:
            await pull.stop()
        self._sessions.forget(self.number)

    def lose(self) -> None:
        """From this moment on nothing is done for it."""
        self._held = False

    def noticed(self, entry: Entry) -> None:
        """Somebody wrote the checkpoint."""
        if self._held and read_checkpoint(entry).owner not in ("", self._owning.name):
            self._lose("another one claimed it")

    def place(self, unfinished: Sequence[SessionRef]) -> Checkpoint:
        """The checkpoint of this instant, in which `unfinished` was seen."""
        return Checkpoint(seq=self.floor, unfinished=tuple(unfinished), owner=self._owning.name)

    async def save(self, state: Checkpoint) -> None:
        """Keep the place.

        Raises:
            Transient: `bus_unavailable`.
            Permanent: `payload_too_large`: the place kept before is as good.
        """
        async with self._writing:
            if state == self._saved or not self._held:
                return
            try:
                self._revision = await self._kv.put(self._key, encode(state), self._revision)
            except Permanent:
                if not await self._still_ours():
                    return
                self._revision = await self._kv.put(self._key, encode(state), self._revision)
            self._saved = state

    async def _still_ours(self) -> bool:
        """Whether the claim stands: a write whose answer got lost may have been one of ours."""
        entry = await self._kv.get(self._key)
        if entry is not None and read_checkpoint(entry).owner == self._owning.name:
            self._revision = entry.revision
            return self._held
        self._lose("another one claimed it")
        return False

    def _lose(self, why: str) -> None:
        if self._held:
            self._bus.log.warning("partition.lost", partition=self.number, reason=why)
            self.lose()
            self._owning.lost()

    # -- reading --------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Make the consumer anew, behind what is settled: then nothing can be missing."""
        if not await self._still_ours():
            raise Transient("partition_lost", f"partition {self.number} has another owner")
        self._unsettled.clear()  # what comes again now comes again for another reason
        await topology.delete_consumer(self._bus, self._row)
        await topology.ensure_consumer(self._bus, self._row, self.floor + 1)
        self._next = 1

    async def _receive(self, message: Msg) -> None:
        if not (self._held and self._owning.fresh()):
            return  # whoever owns it gets it
        place = message.metadata.sequence
        if place.consumer != self._next:
            # some went to another one, or got lost: a state without them would be wrong for ever
            if self._next and self._pull is not None:
                self._bus.log.warning("partition.gap", partition=self.number, expected=self._next)
                self._pull.again()
                self._next = 0
            return
        self._next += 1
        self._highest = max(self._highest, place.stream)
        self._open.add(place.stream)
        self._unsettled[place.stream] = self._unsettled.get(place.stream, 0) + 1
        await self._hand_on(message, place.stream)

    async def _hand_on(self, message: Msg, seq: int) -> None:
        async def settle(done: bool) -> None:
            self._unsettled.pop(seq, None)
            if done:
                self._open.discard(seq)
                self._bus.acks.give(message)
                return
            with contextlib.suppress(nats.errors.Error):  # redelivered after the reconnect
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
        self._meter.saw(stored, now())
        await self._sessions.on_fact(stored, settle)

    async def _read(self, arrived: Delivery) -> StoredFact | None:
        """The fact, None where the loop has nothing to do with it. What is no fact is buried."""
        body: bytes | Failure = arrived.body
        if claims.CLAIM in arrived.headers:
            body = await body_of(self._bus, arrived.subject, arrived.body, arrived.headers)
        try:
            stored = read_fact(
                arrived.subject, body, arrived.sequence, arrived.time, arrived.headers
            )
        except Permanent as error:
            await publish_dead(self._bus, READER, arrived, error.as_failure())
            return None
        if stored is not None and isinstance(stored.fact, Malformed):
            # it still reaches the session, which answers with a typed failure
            await publish_dead(self._bus, READER, arrived, stored.fact.error)
        return None if stored is None or stored.kind == "completed" else stored

    async def _poison(self, arrived: Delivery, stored: StoredFact) -> None:
        """The loop cannot get over this fact: bury it, and end its task instead of hanging."""
        error = Failure(
            code="tries_exhausted",
            family="broken",
            detail=f"the loop met this {stored.kind} {TRIES} times and came to no end",
        )
        self._bus.log.error("fact.poison", subject=arrived.subject, seq=arrived.sequence)
        await publish_dead(self._bus, READER, arrived, error)
        if stored.task and stored.kind != "done":
            await self._log.append(stored.ref, Done(task=stored.task, status="failed", error=error))
