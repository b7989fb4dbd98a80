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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.sessions.core.deletion import (
    history_after,
    newest_deletion,
    open_tasks,
    strays,
    tasks_since,
    usage_of,
)
from shared.bus.burial import step_of
from shared.bus.connect import ApiError, Bus
from shared.bus.consume import Consuming, Delivery, Job, attempt
from shared.bus.log import Page, RunLog, direct_get
from shared.contracts.base import Message, SessionRef, check_token, decode, encode
from shared.contracts.control import DeleteReply, DeleteSession
from shared.contracts.facts import Cancelled, Deleted
from shared.contracts.log import StoredFact, read_fact
from shared.errors import Failure, Permanent, Transient
from shared.subjects import ERASER, LEDGER, RUNS, WORK, session_filter, session_traces

_LOOK = 0.05
STOPPING, DRAINING, ERASING, LEDGER_BEHIND = 15.0, 5.0, 5.0, 2.0
"""Seconds that a request waits: for tasks to end, for work in flight, for the rest, for SQL."""


PATIENT_LOOKS, LAST_LOOK = 30, 45
"""Looks (one a second) at work in flight before it is taken away, and looks in all then."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A deletion that stands in the log; `looks` counts how often this one was made sure of."""

    ref: SessionRef
    upto: int
    looks: int


class Deletion:
    """Answers requests, and finishes what they have begun."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._log = bus, RunLog(bus)
        self._consuming = Consuming(bus, Job(ERASER, _read, self._finish, _nothing), concurrency=4)
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
        ref = SessionRef(check_token(tenant, "tenant"), check_token(session, "session"))
        return await self.delete(ref, decode(message.data, DeleteSession))

    async def delete(self, ref: SessionRef, order: DeleteSession) -> DeleteReply:
        """Forget a session.

        Raises:
            Permanent: `unknown_session`; `session_busy` where tasks have not ended.
            Transient: `still_stopping` when they do not end in time; `bus_unavailable`.
        """
        history = await self._log.read(ref)
        if not history:
            raise Permanent(
                "unknown_session", f"there is no session {ref.session!r}", field="session"
            )
        if (before := newest_deletion(history)) is not None and not history_after(history, before):
            return await self._reply(ref, before.upto, before.seq)
        if waiting := open_tasks(history):
            if not order.force:
                raise _busy(waiting)
            history = await self._stop(ref, waiting, order.by)
        fact = Deleted(upto=history[-1].seq, by=order.by, usage=usage_of(history))
        ack = await self._log.append(ref, fact)
        return await self._reply(ref, fact.upto, ack.seq)

    async def _reply(self, ref: SessionRef, upto: int, sequence: int) -> DeleteReply:
        async def erased() -> bool:
            return await self.erase(ref, upto)

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
            return not await self._in_flight(ref)

        if not await _within(STOPPING, ended):
            raise Transient(
                "still_stopping", "its tasks are cancelled and have not ended yet", retry_after=2.0
            )
        await _within(DRAINING, drained)  # else what comes late is erased later
        history = await self._log.read(ref)
        if waiting := open_tasks(history):
            raise _busy(waiting)
        return history

    async def _finish(self, found: Decided) -> Sequence[Message]:
        """Look again and again until nothing can come; what nobody works on is taken away."""
        over = await self.erase(found.ref, found.upto)
        if found.looks > PATIENT_LOOKS:
            for sequence in await self._in_flight(found.ref, found.upto):
                await self._remove(WORK, sequence)
            over = found.looks > LAST_LOOK
        if not over:
            detail = f"{found.ref}: a step is not over yet"
            raise Transient("work_in_flight", detail, retry_after=1.0)
        return ()

    async def erase(self, ref: SessionRef, upto: int) -> bool:
        """Remove what there is now; True where nothing more of it can come.

        The order matters: without work in flight, all late facts are stored by then.
        """
        bounds = {stream: await self._last(stream) for stream, _ in session_traces(ref)}
        reused = bool(tasks_since(await self._log.read(ref), upto))
        over = not await self._in_flight(ref, upto)
        history = await self._log.read(ref)
        mark = newest_deletion(history)
        if mark is None:  # a later deletion is at it
            return True
        await self._purge(RUNS, session_filter(ref), mark.upto)
        late = strays(history, mark.upto)
        if late and not tasks_since(history, mark.upto):
            await self._again(ref, history)
        else:
            for stored in late:
                await self._remove(RUNS, stored.seq)
        for stream, subject in session_traces(ref):
            last = bounds[stream]
            if reused:
                last = await self._before(stream, subject, mark.time, last)
            await self._purge(stream, subject, last)
        return over

    async def _again(self, ref: SessionRef, history: Sequence[StoredFact]) -> None:
        """Something of it came late: one more deletion that covers it, for the ledger too."""
        fact = Deleted(upto=history[-1].seq, usage=usage_of(history))
        await self._log.append(ref, fact)
        await self._purge(RUNS, session_filter(ref), fact.upto)

    async def _remove(self, stream: str, sequence: int) -> None:
        with contextlib.suppress(ApiError):  # somebody else was faster
            await self._bus.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def _purge(self, stream: str, subject: str, upto: int) -> None:
        """Remove what is on a subject up to a sequence."""
        if upto:
            await self._bus.api(f"STREAM.PURGE.{stream}", {"filter": subject, "seq": upto + 1})

    async def _last(self, stream: str) -> int:
        return int((await self._bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])

    async def _before(self, stream: str, subject: str, time: float, last: int) -> int:
        """The last sequence before a time: what came later is of the session's next life."""
        query = {"batch": 1, "start_time": _rfc3339(time), "next_by_subj": subject}
        found, _ = await direct_get(self._bus, f"$JS.API.DIRECT.GET.{stream}", query)
        if not found:
            return last
        return int((found[0].headers or {})["Nats-Sequence"]) - 1

    async def _in_flight(self, ref: SessionRef, upto: int | None = None) -> list[int]:
        """Where WORK holds steps of the session, except for tasks of its life after `upto`."""
        page, found = Page(f"$JS.API.DIRECT.GET.{WORK}", "work.>"), dict[int, str]()
        while not page.ended:
            for message in await page.read(self._bus):
                headers = message.headers or {}
                step = step_of(message.data, headers)
                if step is not None and step.ref == ref:
                    found[int(headers["Nats-Sequence"])] = step.task
        spared: set[str] = set()
        if found and upto is not None:
            spared = tasks_since(await self._log.read(ref), upto)
        return [sequence for sequence, task in found.items() if task not in spared]


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


def _busy(tasks: Sequence[str]) -> Permanent:
    return Permanent(
        "session_busy",
        f"not ended: {', '.join(tasks[:5])}; cancel what runs, or delete with force",
        field="session",
    )


def _read(delivery: Delivery) -> Decided:
    stored = read_fact(
        delivery.subject, delivery.body, delivery.sequence, delivery.time, delivery.headers
    )
    if stored is None or not isinstance(stored.fact, Deleted):
        raise Permanent("invalid_message", "this is no deletion")
    return Decided(stored.ref, stored.fact.upto, delivery.deliveries)


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _nothing(_found: object, _results: Sequence[Message]) -> None:
    """Erasing publishes nothing."""
