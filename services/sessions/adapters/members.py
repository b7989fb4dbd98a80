"""The processes of this service: says that this one is there, and knows which others are.

Each writes its key in the bucket `members` every second and answers when it is asked. One that
falls silent is asked; where nobody answers the question any more it is gone at once (the server
knows that its connection has ended), and where the answer only does not come, after `GONE`.

The other way round, a process that could not write its key for `LEASE` seconds (it was stopped,
or cut off) must take itself for gone, before the others do: it may not act until it has written
again, and then it has to take over anew whatever it had.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.clock import mint_id, monotonic
from shared.contracts.base import Message, decode, encode
from shared.errors import Permanent, Transient
from shared.subjects import MEMBERS, member_subject

SERVICE = "sessions"
BEAT, DOUBT = 1.0, 1.5
LEASE, GONE = 4.0, 5.0


class Member(Message, frozen=True):
    """What a member says of itself; one that is `leaving` takes nothing over."""

    leaving: bool = False


class Members:
    """`changed` is called when another one came or left, `lapsed` when this one may have been

    taken for gone.
    """

    def __init__(self, bus: Bus, changed: Callable[[], None], lapsed: Callable[[], None]) -> None:
        self.id = mint_id("m")
        self._bus, self._changed, self._lapsed = bus, changed, lapsed
        self._kv = KeyValue(bus, MEMBERS)
        self._own = Member()
        self._confirmed = monotonic()
        self._others: dict[str, Member] = {}
        self._seen: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._beating: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    @property
    def fresh(self) -> bool:
        """Whether the others still count on this one."""
        return monotonic() - self._confirmed < LEASE

    def alive(self, member: str) -> bool:
        """Whether a process of this name is there, as far as is known."""
        return member == self.id or member in self._others

    def working(self) -> list[str]:
        """Those among whom the work is shared."""
        every = {**self._others, self.id: self._own}
        return sorted(member for member, state in every.items() if not state.leaving)

    async def start(self) -> None:
        """Find out who is there, then join.

        Raises:
            Transient: `bus_unavailable`.
        """
        self._subscription = await self._bus.nc.subscribe(
            member_subject(SERVICE, self.id), cb=_answer
        )
        await self._kv.watch(self._noticed)
        for entry in await self._kv.entries(f"{SERVICE}.*"):
            await self._noticed(entry)
        # the entry of one that was killed is still there: whoever took its place need not wait
        await asyncio.gather(*(self._ask(member) for member in list(self._others)))
        await self.beat()
        self._bus.on_reconnect(self._reconnected)
        self._beating = asyncio.create_task(self._beat_often())

    async def leave(self) -> None:
        """Tell the others to take over what this one hands back."""
        self._own = Member(leaving=True)
        with contextlib.suppress(Transient):
            await self.beat()

    async def stop(self) -> None:
        """Say goodbye."""
        self._bus.forget_reconnect(self._reconnected)
        for task in (self._beating, *self._asking.values()):
            if task is not None:
                task.cancel()
        with contextlib.suppress(Transient):
            await self._kv.delete(self._key(self.id))

    def _key(self, member: str) -> str:
        return f"{SERVICE}.{member}"

    async def beat(self) -> None:
        """Say that this one is there.

        Raises:
            Transient: `bus_unavailable`.
        """
        began = monotonic()
        await self._kv.put(self._key(self.id), encode(self._own))
        late = not self.fresh
        self._confirmed = began  # not when the answer came: that may have been long ago
        if late:
            self._trust()
            self._lapsed()

    async def _beat_often(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            try:
                await self.beat()
            except Transient:
                continue  # cut off, as the others may be
            self._doubt()

    async def _reconnected(self) -> None:
        self._trust()

    def _trust(self) -> None:
        """This one heard nothing for a while: that says nothing of the others."""
        self._seen = dict.fromkeys(self._others, monotonic())

    async def _noticed(self, entry: Entry) -> None:
        service, _, member = entry.key.partition(".")
        if service != SERVICE or member == self.id:
            return
        if not entry.value:
            self._remove(member)
            return
        try:
            state = decode(entry.value, Member)
        except Permanent as error:
            self._bus.log.warning("member.unreadable", member=member, error=str(error))
            return
        self._seen[member] = monotonic()
        if self._others.get(member) != state:
            self._others[member] = state
            self._changed()

    def _remove(self, member: str) -> None:
        self._seen.pop(member, None)
        if self._others.pop(member, None) is not None:
            self._bus.log.info("member.gone", member=member)
            self._changed()

    def _doubt(self) -> None:
        now = monotonic()
        for member, seen in list(self._seen.items()):
            if now - seen > GONE:
                self._remove(member)
            elif now - seen > DOUBT and member not in self._asking:
                self._asking[member] = asyncio.create_task(self._ask(member))

    async def _ask(self, member: str) -> None:
        """Nobody there: it is gone. No answer: it may be busy, or stopped."""
        try:
            await self._bus.request(member_subject(SERVICE, member), b"", 1.0)
            self._seen[member] = monotonic()
        except Transient as error:
            if error.code == "no_responders":
                self._remove(member)
        finally:
            self._asking.pop(member, None)


async def _answer(message: Msg) -> None:
    await message.respond(b"ok")
