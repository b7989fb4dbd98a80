"""The faults, each a coroutine that does them to a running system while the load goes on."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import nats.errors
from nats.aio.msg import Msg

from shared.bus.connect import Bus
from shared.contracts.log import MSG_ID
from shared.errors import MillraceError
from shared.subjects import DELTA, RUNS
from tests.chaos.brokers import SmallDiskBroker, leader_of
from tests.chaos.system import System

FROZEN = 8.0
"""Longer than every `ack_wait` of the work queue, and than a worker may be silent."""
_UNIQUE = frozenset({"accepted", "done", "tool_started"})


@dataclass
class Field:
    """Where the faults happen."""

    system: System
    bus: Bus
    chosen: random.Random
    forged: set[int] = field(default_factory=set)
    """Sequences of the facts that were published again."""

    def kill(self, name: str) -> bool:
        return self.system.signal(name, signal.SIGKILL, "kill")

    async def pause(self, low: float, high: float | None = None) -> None:
        await asyncio.sleep(self.chosen.uniform(low, high or low))


Faults = Callable[[Field], Coroutine[None, None, None]]


async def kill_services(at: Field) -> None:
    """SIGKILL each service in turn; the workers have a scenario of their own."""
    for name in at.system.services:
        if not name.startswith("worker"):
            at.kill(name)
            await at.pause(1.5)


async def kill_workers(at: Field) -> None:
    """SIGKILL the workers in turn, while they generate."""
    for name in [name for name in at.system.services if name.startswith("worker")] * 3:
        at.kill(name)
        await at.pause(2.0)


async def kill_some(at: Field) -> None:
    """SIGKILL a service at random, and sometimes two at once."""
    for _ in range(10):
        for name in at.chosen.sample(at.system.services, at.chosen.choice((1, 1, 2))):
            at.kill(name)
        await at.pause(0.3, 2.5)


async def kill_broker(at: Field) -> None:
    """SIGKILL the server; everything it held in memory is gone."""
    for _ in range(4):
        at.kill("nats-0")
        await at.pause(2.5, 5.0)


async def drain_each(at: Field) -> None:
    """SIGTERM each service in turn, as a deploy does."""
    for name in at.system.services:
        at.system.signal(name, signal.SIGTERM, "drain")
        await at.pause(1.5)


async def freeze(at: Field) -> None:
    """SIGSTOP for longer than `ack_wait`, then SIGCONT: the frozen noticed nothing."""
    frozen = at.system.freeze
    await at.pause(0.5)
    await asyncio.gather(
        frozen("worker-0", FROZEN), frozen("tools-0", FROZEN), frozen("router-0", FROZEN)
    )
    await at.pause(0.5)
    await asyncio.gather(frozen("sessions-0", FROZEN), frozen("worker-1", FROZEN))
    await frozen("nats-0", 4.0)
    await at.pause(1.0)


async def set_clocks(at: Field) -> None:
    """Services that do not agree what time it is, and clocks that jump, back as well."""
    for spread in (30.0, 5.0, 60.0, 0.0):
        names = at.system.services
        at.system.set_clocks({name: at.chosen.uniform(-spread, spread) for name in names})
        for name in names[:2]:
            at.system.note("clock", name)
        await at.pause(2.5)


async def repeat_messages(at: Field) -> None:
    """Deliver work and facts again: at once under the same id, and late, backwards, without one."""
    echo = _Echo(at)
    await echo.start()
    try:
        for _ in range(8):
            await at.pause(1.5)
            at.system.note("repeat", "messages")
            await echo.late()
    finally:
        await echo.stop()


class _Echo:
    """Listens to what is published and publishes it again."""

    def __init__(self, at: Field) -> None:
        self._at, self._recent = at, deque[Msg](maxlen=40)
        self._jobs: set[asyncio.Task[None]] = set()
        self._ours: set[bytes] = set()

    async def start(self) -> None:
        nc = self._at.bus.nc
        self._subscriptions = [
            await nc.subscribe(subject, cb=self._heard) for subject in ("work.>", "feed.>")
        ]

    async def stop(self) -> None:
        for subscription in self._subscriptions:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _heard(self, message: Msg) -> None:
        if message.subject.split(".")[4:5] == [DELTA]:
            return
        if message.data in self._ours or self._at.chosen.random() > 0.4:
            return
        self._ours.add(message.data)
        self._recent.append(message)
        if self._at.chosen.random() < 0.5:
            job = asyncio.create_task(self._again(message, same_id=True))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    async def late(self) -> None:
        """What was heard a while ago, the newest first."""
        messages = [self._recent.popleft() for _ in range(len(self._recent) // 2)]
        for message in reversed(messages):
            await self._again(message, same_id=False)

    async def _again(self, message: Msg, *, same_id: bool) -> None:
        headers = {
            name: value
            for name, value in (message.headers or {}).items()
            if not name.startswith("Nats-") or (same_id and name == MSG_ID)
        }
        subject = message.subject
        if subject.startswith("feed."):
            subject = subject.replace("feed.", "run.", 1)
            if subject.split(".")[4] in _UNIQUE:
                headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        with contextlib.suppress(MillraceError):
            ack = await self._at.bus.publish(subject, message.data, headers)
            if subject.startswith("run.") and not ack.duplicate:
                self._at.forged.add(ack.seq)


async def stop_reading(at: Field) -> None:
    """Clients that ask for everything and read nothing; the readers of the load stall as well."""
    host, port = at.system.address.servers[0].removeprefix("nats://").split(":")
    sockets = []
    for _ in range(4):
        sockets.append(_deaf(host, int(port), at.system.address.token or ""))
        at.system.note("deaf", "client")
        await at.pause(3.0)
    for one in sockets:
        one.close()


def _deaf(host: str, port: int, token: str) -> socket.socket:
    """A NATS client by hand, with the smallest of windows, that never reads a byte."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect((host, port))
    hello = f'CONNECT {{"verbose":false,"auth_token":"{token}","headers":true}}\r\n'
    one.sendall(f"{hello}SUB feed.> 1\r\nSUB tokens.> 2\r\nSUB work.> 3\r\n".encode())
    return one


async def fill_disk(at: Field) -> None:
    """No space left for the log, three times; the third time the server is killed as well."""
    broker = at.system.broker
    assert isinstance(broker, SmallDiskBroker)
    for killed in (False, False, True):
        await at.pause(2.0)
        broker.fill()
        at.system.note("disk-full", "nats-0")
        await at.pause(4.0)
        if killed:
            at.kill("nats-0")
            await at.pause(1.0)
        broker.free()
        at.system.note("disk-free", "nats-0")
        await at.pause(3.0)


async def kill_nodes(at: Field) -> None:
    """SIGKILL the leader of the log, then each node in turn; each may come back before the next."""
    await at.pause(2.0)
    leader = await leader_of(at.system.broker, RUNS)
    for name in (leader, *at.system.broker.names):
        at.kill(name or "nats-0")
        await at.pause(9.0, 11.0)


async def everything(at: Field) -> None:
    """Whatever comes to mind."""
    for _ in range(12):
        name = at.chosen.choice(at.system.services)
        what = at.chosen.random()
        if what < 0.5:
            at.kill(name)
        elif what < 0.7:
            at.system.signal(name, signal.SIGTERM, "drain")
        elif what < 0.85:
            await at.system.freeze(name, at.chosen.choice((1.0, FROZEN)))
        else:
            at.kill(at.chosen.choice(at.system.broker.names))
        await at.pause(0.2, 2.0)
