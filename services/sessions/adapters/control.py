"""Control requests and fired timers: what reaches a session from outside its log."""

from __future__ import annotations

from collections.abc import Sequence

from nats.aio.msg import Msg

from services.sessions.handlers import Sessions
from shared.bus.connect import Bus
from shared.bus.consume import Consuming, Delivery, Job, attempt
from shared.contracts.base import Message, SessionRef, check_token, decode, encode
from shared.contracts.control import CancelTask, ControlReply
from shared.errors import Failure, Permanent
from shared.subjects import FIRED


class Control:
    """Answers `control.<tenant>.<session>.<verb>`; replicas share the requests."""

    def __init__(self, bus: Bus, sessions: Sessions) -> None:
        self._bus, self._sessions = bus, sessions

    async def start(self) -> None:
        """Subscribe."""
        await self._bus.nc.subscribe("control.*.*.*", queue="sessions", cb=self._on_request)

    async def _on_request(self, message: Msg) -> None:
        if message.subject.endswith(".delete"):
            return  # see deletion.py: it takes its time
        reply = await attempt(lambda: self._handle(message), self._bus.log)
        if isinstance(reply, Failure):
            reply = ControlReply(error=reply)
        if message.reply:
            await self._bus.send(message.reply, encode(reply))

    async def _handle(self, message: Msg) -> ControlReply:
        _, tenant, session, verb = message.subject.split(".")
        ref = SessionRef(check_token(tenant, "tenant"), check_token(session, "session"))
        if verb != "cancel":
            raise Permanent("unknown_verb", f"{verb!r} is no request of ours; cancel is")
        return await self._sessions.cancel(ref, decode(message.data, CancelTask))


def timers(bus: Bus, sessions: Sessions) -> Consuming[tuple[SessionRef, str]]:
    """The consumer of fired deadline timers: `fired.<p>.<tenant>.<session>.<task>.<timer>`."""

    def read(delivery: Delivery) -> tuple[SessionRef, str]:
        parts = delivery.subject.split(".")
        if len(parts) != 6:
            raise Permanent("invalid_subject", f"{delivery.subject[:120]!r} is no timer")
        return SessionRef(parts[2], parts[3]), parts[4]

    async def handle(fired: tuple[SessionRef, str]) -> Sequence[Message]:
        await sessions.deadline(*fired)
        return ()

    async def emit(_fired: tuple[SessionRef, str], _results: Sequence[Message]) -> None:
        return

    return Consuming(bus, Job(FIRED, read, handle, emit), concurrency=16)
