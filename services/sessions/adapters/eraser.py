"""Erases what is left of deleted sessions, until nothing of them can come any more.

Whatever is removed here was decided before: the fact `deleted` stands in the log. Everything is
repeated by the consumer of that fact, so a crash in the middle ends in the same place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.sessions.core.deletion import newest_deletion, strays, tasks_since, usage_of
from shared.bus.burial import step_of
from shared.bus.connect import ApiError, Bus
from shared.bus.consume import Consuming, Delivery, Job
from shared.bus.log import Page, RunLog, direct_get
from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Deleted
from shared.contracts.log import StoredFact, read_fact
from shared.errors import Permanent, Transient
from shared.schedules import Schedules
from shared.subjects import (
    BLOBS,
    DEAD,
    ERASER,
    RUNS,
    TIMERS,
    WORK,
    blob_filter,
    due_subject,
    schedule_subject,
    session_filter,
    session_traces,
    site_of,
    snapshot_subject,
)
from shared.subjects.sites import copy_filter

_OVERWRITTEN = frozenset({RUNS, TIMERS, DEAD, BLOBS})
"""Streams on disk; key-value buckets are there too, and allow nothing but a purge."""
PATIENT_LOOKS, LAST_LOOK = 30, 45
"""Looks (one a second) at work in flight before it is taken away, and looks in all then."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A deletion that stands in the log; `looks` counts how often this one was made sure of."""

    ref: SessionRef
    upto: int
    looks: int
    site: str = ""
    """Whose it was, where what is here of it are copies."""


class Eraser:
    """Removes the words of a session, everywhere."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._log = bus, RunLog(bus)

    def consuming(self) -> Consuming[Decided]:
        """The consumer of the deletions in the log."""
        return Consuming(self._bus, Job(ERASER, _read, self._finish, _nothing), concurrency=4)

    async def _finish(self, found: Decided) -> Sequence[Message]:
        """Look again and again until nothing can come; what nobody works on is taken away."""
        if found.site:
            await self._forget_copies(found)
            return ()
        over = await self.erase(found.ref, found.upto)
        if found.looks > PATIENT_LOOKS:
            for sequence in await self.in_flight(found.ref, found.upto):
                await self._remove(WORK, sequence)
            over = found.looks > LAST_LOOK
        if not over:
            detail = f"{found.ref}: a step is not over yet"
            raise Transient("work_in_flight", detail, retry_after=1.0)
        return ()

    async def _forget_copies(self, found: Decided) -> None:
        """The session is another site's, which has erased it: copies are all that is here of it."""
        await self._purge(RUNS, copy_filter(found.site, found.ref), found.upto)
        await self._purge(BLOBS, blob_filter(found.ref), await self._last(BLOBS))

    async def erase(self, ref: SessionRef, upto: int) -> bool:
        """Remove what there is now; True where nothing more of it can come.

        The order matters: without work in flight, all late facts are stored by then.
        """
        bounds = {stream: await self._last(stream) for stream, _ in session_traces(ref)}
        reused = bool(tasks_since(await self._log.read(ref), upto))
        over = not await self.in_flight(ref, upto)
        history = await self._log.read(ref)
        mark = newest_deletion(history)
        if mark is None:  # a later deletion is at it
            return True
        await self._purge(RUNS, session_filter(ref), mark.upto)
        # a snapshot is newer than what it shows; one of the next life is a shortcut less
        await self._purge(RUNS, snapshot_subject(ref), await self._last(RUNS))
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
        await self._unschedule(ref, mark.time)
        return over

    async def _unschedule(self, ref: SessionRef, time: float) -> None:
        """Schedules that would bring the session back hold its words, as do their firings."""
        try:
            known = await Schedules(self._bus, ref.tenant).list()
        except Permanent as error:  # somebody's cannot be read: that one is not ours to judge
            self._bus.log.error("schedules.unreadable", tenant=ref.tenant, error=str(error))
            return
        for one in known:
            if one.schedule.session == ref.session and one.created <= time:
                await self._purge(TIMERS, schedule_subject(ref.tenant, one.name), one.sequence)
                fired, last = due_subject(ref.tenant, one.name), await self._last(TIMERS)
                await self._purge(TIMERS, fired, await self._before(TIMERS, fired, time, last))

    async def _again(self, ref: SessionRef, history: Sequence[StoredFact]) -> None:
        """Something of it came late: one more deletion that covers it, for the ledger too."""
        own = await self._log.read_filter(session_filter(ref))
        fact = Deleted(upto=history[-1].seq, usage=usage_of(own))
        await self._log.append(ref, fact)
        await self._purge(RUNS, session_filter(ref), fact.upto)

    async def _remove(self, stream: str, sequence: int) -> None:
        with contextlib.suppress(ApiError):  # somebody else was faster
            await self._bus.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def _purge(self, stream: str, subject: str, upto: int) -> None:
        """Remove what is on a subject up to a sequence.

        A purge leaves the bytes on disk until the server compacts the file; deleting message by
        message overwrites them (measured: 3.5 ms each, with every write fsynced).
        """
        if upto:
            if stream in _OVERWRITTEN:
                await self._overwrite(stream, subject, upto)
            await self._bus.api(f"STREAM.PURGE.{stream}", {"filter": subject, "seq": upto + 1})

    async def _overwrite(self, stream: str, subject: str, upto: int) -> None:
        page = Page(f"$JS.API.DIRECT.GET.{stream}", subject)
        while not page.ended:
            read = await page.read(self._bus)
            for sequence in (int((one.headers or {})["Nats-Sequence"]) for one in read):
                if sequence > upto:
                    return
                await self._remove(stream, sequence)

    async def _last(self, stream: str) -> int:
        return int((await self._bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])

    async def _before(self, stream: str, subject: str, time: float, last: int) -> int:
        """The last sequence before a time: what came later is of the session's next life."""
        query = {"batch": 1, "start_time": _rfc3339(time), "next_by_subj": subject}
        found, _ = await direct_get(self._bus, f"$JS.API.DIRECT.GET.{stream}", query)
        if not found:
            return last
        return int((found[0].headers or {})["Nats-Sequence"]) - 1

    async def in_flight(self, ref: SessionRef, upto: int | None = None) -> list[int]:
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


def _read(delivery: Delivery) -> Decided:
    stored = read_fact(
        delivery.subject, delivery.body, delivery.sequence, delivery.time, delivery.headers
    )
    if stored is None or not isinstance(stored.fact, Deleted):
        raise Permanent("invalid_message", "this is no deletion")
    site = site_of(delivery.subject)
    return Decided(stored.ref, stored.fact.upto, delivery.deliveries, site)


def _rfc3339(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _nothing(_found: object, _results: Sequence[Message]) -> None:
    """Erasing publishes nothing."""
