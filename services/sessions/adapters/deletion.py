"""Deletes sessions: `control.<tenant>.<session>.delete`, and the fact `deleted` that follows.

    refuse, or cancel what runs --> fact `deleted` (decided, durable) --> erase, until nothing of
    the session can come any more

The fact is what everybody else learns from: the loop and the workers forget what they hold of the
session when they read on, the ledger drops its rows. Erasing is repeated by the consumer of that
fact, so a crash in the middle ends in the same place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.sessions.adapters.eraser import Eraser
from services.sessions.core.deletion import (
    children_of,
    history_after,
    newest_deletion,
    open_tasks,
    usage_of,
)
from shared.bus.connect import Bus
from shared.bus.consume import attempt
from shared.bus.log import RunLog
from shared.contracts.base import SessionRef, check_token, decode, encode
from shared.contracts.control import DeleteReply, DeleteSession
from shared.contracts.facts import Cancelled, Deleted
from shared.contracts.log import StoredFact
from shared.errors import Failure, Permanent, Transient
from shared.subjects import LEDGER, RUNS, check_session, ended_subject, session_filter

_LOOK = 0.05
STOPPING, DRAINING, ERASING, LEDGER_BEHIND = 15.0, 5.0, 5.0, 2.0
"""Seconds that a request waits: for tasks to end, for work in flight, for the rest, for SQL."""


class Deletion:
    """Answers requests, and finishes what they have begun."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._log, self._eraser = bus, RunLog(bus), Eraser(bus)
        self._consuming = self._eraser.consuming()
        self._subscription: Subscription | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Subscribe; replicas share the requests."""
        await self._consuming.start()
        self._subscription = await self._bus.nc.subscribe(
            "control.*.*.delete", queue="deletion", cb=self._on_request
        )

    async def stop(self) -> None:
        """Take no more; what was decided is finished by whoever runs next."""
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error):
                await self._subscription.unsubscribe()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._consuming.stop()

    async def _on_request(self, message: Msg) -> None:
        task = asyncio.create_task(self._answer(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, message: Msg) -> None:
        reply = await attempt(lambda: self._request(message), self._bus.log)
        if isinstance(reply, Failure):
            reply = DeleteReply(error=reply)
        if message.reply:
            with contextlib.suppress(Transient):
                await self._bus.send(message.reply, encode(reply))

    async def _request(self, message: Msg) -> DeleteReply:
        _, tenant, session, _ = message.subject.split(".")
        ref = SessionRef(check_token(tenant, "tenant"), check_session(session))
        return await self.delete(ref, decode(message.data, DeleteSession))

    async def delete(self, ref: SessionRef, order: DeleteSession) -> DeleteReply:
        """Forget a session.

        Raises:
            Permanent: `unknown_session`; `has_forks`; `session_busy` where tasks have not ended.
            Transient: `still_stopping` when they do not end in time; `bus_unavailable`.
        """
        history = await self._log.read(ref)
        if not history:
            raise Permanent(
                "unknown_session", f"there is no session {ref.session!r}", field="session"
            )
        if (before := newest_deletion(history)) is not None and _is_deleted(history):
            return await self._reply({ref: before.upto}, before.seq)
        await self._check_forks(ref, history)
        if waiting := open_tasks(history):
            if not order.force:
                raise _busy(waiting)
            history = await self._stop(ref, waiting, order.by)
        children = await self._children(ref, history)
        for child in children:
            if waiting := open_tasks(await self._log.read(child)):
                await self._stop(child, waiting, order.by)
        await self._check_forks(ref, history)  # once more: stopping takes its time
        # an asked agent tells its end in this log: the session itself is the last one
        facts = {one: await self._record(one, order.by) for one in (*children, ref)}
        covered = {one: fact.upto for one, (fact, _) in facts.items()}
        return await self._reply(covered, facts[ref][1])

    async def _record(self, ref: SessionRef, by: str) -> tuple[Deleted, int]:
        """The fact, and where it stands; from here on it cannot be taken back."""
        own = await self._log.read_filter(session_filter(ref))
        if waiting := open_tasks(await self._log.read(ref)):  # with what a fork took over
            raise _busy(waiting)
        fact = Deleted(upto=own[-1].seq, by=by, usage=usage_of(own))
        sequence = (await self._log.append(ref, fact)).seq
        with contextlib.suppress(Transient):
            await self._bus.send(ended_subject(ref), b"")  # the workers' caches hold its words
        return fact, sequence

    async def _children(self, ref: SessionRef, history: Sequence[StoredFact]) -> list[SessionRef]:
        """The sessions of the agents that it asked, behind those that they asked in turn."""
        found: list[SessionRef] = []
        for child in children_of(ref, history):
            theirs = await self._log.read(child)
            if theirs and not _is_deleted(theirs):
                found += [*await self._children(child, theirs), child]
        return found

    async def _check_forks(self, ref: SessionRef, history: Sequence[StoredFact]) -> None:
        for one in (ref, *await self._children(ref, history)):
            if forks := await self._log.forks_of(one):
                raise Permanent(
                    "has_forks",
                    f"{', '.join(sorted(forks)[:5])} read their beginning in {one.session}; "
                    "delete them first",
                    field="session",
                )

    async def _reply(self, covered: Mapping[SessionRef, int], sequence: int) -> DeleteReply:
        async def erased() -> bool:
            over = [await self._eraser.erase(ref, upto) for ref, upto in covered.items()]
            return all(over)

        async def recorded() -> bool:
            info = await self._bus.api(f"CONSUMER.INFO.{RUNS}.{LEDGER.name}")
            return bool(info["ack_floor"]["stream_seq"] >= sequence)

        patience = LEDGER_BEHIND if await self._has_ledger() else 0.1
        complete = await _within(ERASING, erased) and await _within(patience, recorded)
        return DeleteReply(sequence=sequence, complete=complete)

    async def _has_ledger(self) -> bool:
        with contextlib.suppress(Transient):
            return bool(await self._bus.request("health.ledger", b"", 0.5))
        return False

    async def _stop(self, ref: SessionRef, tasks: Sequence[str], by: str) -> list[StoredFact]:
        """Cancel; the log once all have ended and, if that can be had, no work is in flight."""
        for task in tasks:
            await self._log.append(ref, Cancelled(task=task, by=by, reason="session deleted"))

        async def ended() -> bool:
            return not open_tasks(await self._log.read(ref))

        async def drained() -> bool:
            return not await self._eraser.in_flight(ref)

        if not await _within(STOPPING, ended):
            raise Transient(
                "still_stopping", "its tasks are cancelled and have not ended yet", retry_after=2.0
            )
        await _within(DRAINING, drained)  # else what comes late is erased later
        history = await self._log.read(ref)
        if waiting := open_tasks(history):
            raise _busy(waiting)
        return history


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a condition comes true in time."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                if await condition():
                    return True
                await asyncio.sleep(_LOOK)
    except TimeoutError:
        return False


def _is_deleted(history: Sequence[StoredFact]) -> bool:
    """It was deleted, and not used since."""
    mark = newest_deletion(history)
    return mark is not None and not history_after(history, mark)


def _busy(tasks: Sequence[str]) -> Permanent:
    return Permanent(
        "session_busy",
        f"not ended: {', '.join(tasks[:5])}; cancel what runs, or delete with force",
        field="session",
    )
