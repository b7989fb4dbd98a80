"""Continuous pull: keeps requests open ahead of demand and hands messages to a callback.

nats-py's `fetch` and iterator cost a task per message; here a message costs one callback
(7.5 microseconds, facts: nats.md section 2). The loop heals itself: after a reconnect, a lost
consumer or missed heartbeats all open requests are void and it starts over.

A consumer with a group has one reader at a time: the server pins the messages to whoever it gave
the first one, and answers 423 to a request that names an older pin (facts: nats.md, 1.2). Only a
request keeps the pin alive, so requests are short there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import nats.errors
import orjson
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared.bus.connect import ApiError, Bus
from shared.clock import monotonic
from shared.errors import Broken, Transient
from shared.subjects import Consumer

OnMessage = Callable[[Msg], Awaitable[None]]
Prepare = Callable[[], Awaitable[None]]
_EXPIRES, _HEARTBEAT = 30.0, 2.0
_PINNED_EXPIRES, _PINNED_HEARTBEAT = 2.0, 1.0


class Pull:
    """Reads one durable consumer. `prepare` (re-)creates the consumer before each start-over.

    `room` is how many messages may be under way (delivered or requested) at a time; callers that
    hold messages for long report each finished one with `release` when `credit` is on.
    """

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        on_message: OnMessage,
        prepare: Prepare,
        *,
        room: int = 256,
        credit: bool = False,
    ) -> None:
        self._bus, self._on_message, self._prepare = bus, on_message, prepare
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
        self._name, self._group = consumer.name, consumer.group
        self._expires = _PINNED_EXPIRES if consumer.group else _EXPIRES
        self._heartbeat = _PINNED_HEARTBEAT if consumer.group else _HEARTBEAT
        self._pin = ""
        self._room, self._credit = room, credit
        self._asked = 0
        self._held = 0
        self._alive = monotonic()
        self._generation = 0
        self._subscription: Subscription | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Subscribe, create the consumer and ask for the first messages.

        Where the consumer cannot be had yet (another one still reads its subjects) it is tried
        again for as long as it takes.
        """
        try:
            await self._begin()
        except (Transient, Broken, ApiError) as error:
            self._bus.log.warning("pull.retry", consumer=self._name, error=str(error))
            self._restart(0.2)
        self._watch = asyncio.create_task(self._watchdog())
        self._bus.on_reconnect(self._on_reconnect)

    async def stop(self) -> None:
        """Ask for nothing more. Messages in hand are the caller's to finish."""
        self._stopped = True
        self._bus.forget_reconnect(self._on_reconnect)
        for task in (self._watch, self._restarting):
            if task is not None:
                task.cancel()
        await self._unsubscribe()

    def again(self) -> None:
        """Start over: the caller has missed a message."""
        self._restart(0.0)

    async def _begin(self) -> None:
        await self._prepare()
        self._asked, self._pin = 0, ""
        await self._subscribe()
        await self._refill()
        self._alive = monotonic()

    async def _unsubscribe(self) -> None:
        """Harmless where there is no subscription (any more)."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()

    async def release(self) -> None:
        """One message is finished: there is room for another (only with `credit`)."""
        self._held -= 1
        await self._refill()

    async def _subscribe(self) -> None:
        # a new inbox for each generation: what an old request still brings is not counted
        self._generation += 1
        generation = self._generation

        async def receive(message: Msg) -> None:
            await self._receive(message, generation)

        self._inbox = self._bus.nc.new_inbox()
        self._subscription = await self._bus.nc.subscribe(
            self._inbox, cb=receive, pending_msgs_limit=1_000_000, pending_bytes_limit=0
        )

    async def _refill(self) -> None:
        free = self._room - self._asked - self._held
        threshold = max(1, self._room // (4 if self._credit else 2))
        if free < threshold or self._stopped:
            return
        request: dict[str, int | str] = {
            "batch": free,
            "expires": int(self._expires * 1e9),
            "idle_heartbeat": int(self._heartbeat * 1e9),
        }
        if self._group:
            request["group"] = self._group
        if self._pin:
            request["id"] = self._pin
        self._asked += free
        await self._bus.send(self._next, orjson.dumps(request), reply=self._inbox)

    async def _receive(self, message: Msg, generation: int) -> None:
        if generation != self._generation and (self._group or not message.data):
            return  # a pinned reader's consumer was made again: this message comes again, too
        self._alive = monotonic()
        status = message.headers.get("Status") if message.headers and not message.data else None
        if status is not None:
            await self._on_status(status, message)
            return
        if generation == self._generation:
            self._asked -= 1
        if self._group and message.headers:
            self._pin = message.headers.get("Nats-Pin-Id", self._pin)
        if self._credit:
            self._held += 1
        elif generation == self._generation:
            await self._refill()
        await self._on_message(message)

    async def _on_status(self, status: str, message: Msg) -> None:
        if status == "100":
            return  # idle heartbeat
        if status == "423":  # the pin is another one's now, or nobody's
            self._pin = ""
        if status in ("404", "408", "423"):  # it expired or found nothing: only its rest is void
            left = (message.headers or {}).get("Nats-Pending-Messages", "1")
            self._asked = max(0, self._asked - int(left))
            await self._refill()
            return
        self._restart(0.1)  # 503 nobody there, 409 consumer deleted or leader changed

    def _restart(self, delay: float) -> None:
        if self._stopped or (self._restarting and not self._restarting.done()):
            return
        self._restarting = asyncio.create_task(self._start_over(delay))

    async def _start_over(self, delay: float) -> None:
        while not self._stopped:
            await asyncio.sleep(delay)
            try:
                await self._unsubscribe()
                await self._begin()
            except (Transient, Broken, ApiError, nats.errors.Error) as error:
                self._bus.log.warning("pull.retry", consumer=self._name, error=str(error))
                delay = min(2.0, delay * 2 + 0.1)
                continue
            return

    async def _on_reconnect(self) -> None:
        self._restart(0.0)

    async def _watchdog(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT)
            idle = monotonic() - self._alive
            if self._asked > 0 and idle > 3 * _HEARTBEAT and self._bus.nc.is_connected:
                self._bus.log.warning("pull.no_heartbeat", consumer=self._name)
                self._alive = monotonic()
                self._restart(0.0)
