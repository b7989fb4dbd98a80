"""Control requests and fired timers: what reaches a session from outside its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nats.aio.msg import Msg

from services.sessions.adapters.schedules import with_schedules
from services.sessions.adapters.unkept import Forgetting
from services.sessions.core.control import Order
from services.sessions.handlers import Sessions
from shared.bus import claims
from shared.bus.connect import Bus
from shared.bus.consume import Consuming, Delivery, Job, attempt
from shared.bus.service import Runs
from shared.contracts.base import Message, SessionRef, check_token, decode, encode
from shared.contracts.control import (
    ApproveStep,
    CancelTask,
    ControlReply,
    ForkSession,
    GiveResult,
    NoteSession,
    RejectStep,
    RetryTask,
    SteerTask,
)
from shared.errors import Failure, Permanent
from shared.subjects import FIRED, check_session

ORDERS: dict[str, type[Order]] = {
    "cancel": CancelTask,
    "steer": SteerTask,
    "approve": ApproveStep,
    "reject": RejectStep,
}


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
        body = await claims.opened(self._bus, ref, message.data, message.headers)
        if verb == "retry":
            return await self._sessions.retry(ref, decode(body, RetryTask))
        if verb == "note":
            check_session(session)
            return await self._sessions.note(ref, decode(body, NoteSession))
        if verb == "result":
            return await self._sessions.result(ref, decode(body, GiveResult))
        if verb == "fork":
            return await self._sessions.fork(ref, decode(body, ForkSession))
        kind = ORDERS.get(verb)
        if kind is None:
            known = ", ".join([*ORDERS, "result", "note", "retry", "fork", "delete"])
            raise Permanent("unknown_verb", f"{verb!r} is no request of ours; there are: {known}")
        return await self._sessions.order(ref, decode(body, kind))


@dataclass(frozen=True, slots=True)
class Fired:
    """A timer that went off: `fired.<p>.<tenant>.<session>.<task>.<timer>`."""

    ref: SessionRef
    task: str
    timer: str
    time: float


def timers(bus: Bus, sessions: Sessions, forgetting: Forgetting) -> Runs:
    """The consumer of fired timers."""

    def read(delivery: Delivery) -> Fired:
        parts = delivery.subject.split(".")
        if len(parts) != 6:
            raise Permanent("invalid_subject", f"{delivery.subject[:120]!r} is no timer")
        return Fired(SessionRef(parts[2], parts[3]), parts[4], parts[5], delivery.time)

    async def handle(fired: Fired) -> Sequence[Message]:
        await sessions.fired(fired.ref, fired.task, fired.timer, fired.time)
        return ()

    async def emit(_fired: Fired, _results: Sequence[Message]) -> None:
        return

    job = forgetting.among(with_schedules(bus, Job(FIRED, read, handle, emit)))
    return Consuming(bus, job, concurrency=16)
