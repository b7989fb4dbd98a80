"""Looks every second how much work waits, and refuses more of it above a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import nats.errors

from services.ingress.adapters.accounts import check_account
from services.ingress.adapters.bus import BusTasks, Link
from services.ingress.adapters.records import handed_on
from services.ingress.core.access.admission import Lane, Pressure, pressure, wait_for
from services.ingress.core.tasks.bodies import ForkBody
from services.ingress.core.tasks.state import Order
from services.ingress.ports import Completions, TaskHandle
from shared.bus.connect import Bus
from shared.clock import monotonic
from shared.contracts.base import SessionRef
from shared.contracts.facts import Forked
from shared.contracts.tokens import DirectEvent
from shared.contracts.work import DirectRequest
from shared.errors import MillraceError, Transient
from shared.subjects import ROUTER, WORK, is_model_lane
from shared.telemetry import Log

_LOOK = 1.0
_STALE = 10.0
"""Seconds after which an old look refuses nobody: without the bus nothing is taken in any case."""


class Gate:
    """Knows how much waits. `bound` is how many model calls may, 0 for any number."""

    def __init__(self, link: Link, bound: int, log: Log) -> None:
        self._link, self._bound, self._log = link, bound, log
        self._found, self._seen = Pressure(), float("-inf")
        self._done, self._shut = 0, False

    def check(self) -> None:
        """Let one more in.

        Raises:
            Transient: `queue_full`.
        """
        if monotonic() - self._seen > _STALE:
            return
        wait = wait_for(self._found, self._bound)
        if wait is not None:
            detail = f"{self._found.waiting} model calls wait already; more of them would only wait"
            raise Transient("queue_full", detail, retry_after=wait)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Look meanwhile."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while self._bound:
            try:
                await self.look()
            except (MillraceError, nats.errors.Error) as error:
                self._log.info("ingress.queue_unseen", error=type(error).__name__)
            await asyncio.sleep(_LOOK)

    async def look(self) -> Pressure:
        """How it is now.

        Raises:
            Transient: `bus_unavailable`.
        """
        client = self._link.client()
        lanes = await _lanes(client.bus)
        done, now = sum(lane.done for lane in lanes), monotonic()
        per_s = max(0, done - self._done) / max(now - self._seen, 0.001)
        self._found = pressure(lanes, await client.workers(), per_s)
        self._done, self._seen = done, now
        shut = wait_for(self._found, self._bound) is not None
        if shut != self._shut:
            self._log.warning("ingress.queue", full=shut, waiting=self._found.waiting)
            self._shut = shut
        return self._found


async def _lanes(bus: Bus) -> list[Lane]:
    """The consumers of model calls, and the router's, which hands on what they then do."""
    found: list[Lane] = []
    offset, total = 0, 1
    while offset < total:
        answer = await bus.api(f"CONSUMER.LIST.{WORK}", {"offset": offset})
        page = answer["consumers"] or ()
        for one in page:
            if one["name"] == ROUTER.name:
                found.append(Lane(one["num_pending"], one["num_ack_pending"], 0))
            elif is_model_lane(one["name"]):
                done = one["ack_floor"]["consumer_seq"]
                found.append(Lane(one["num_pending"], one["num_ack_pending"], done))
        offset += len(page)
        total = answer["total"] if page else 0
    return found


class AdmittedTasks(BusTasks):
    """Port `Tasks`, whose new ones pass a gate. What is known already never comes here."""

    def __init__(self, link: Link, gate: Gate) -> None:
        super().__init__(link)
        self._gate = gate

    async def submit(self, order: Order, trace_id: str) -> TaskHandle:
        """See `BusTasks.submit`.

        Raises:
            Transient: `queue_full`, and what the caller may not cause now.
        """
        check_account()
        self._gate.check()
        task = await super().submit(order, trace_id)
        handed_on()
        return task

    async def fork(self, ref: SessionRef, body: ForkBody, key: str) -> tuple[str, Forked]:
        """See `BusTasks.fork`.

        Raises:
            Transient: as `submit`.
        """
        check_account()
        self._gate.check()
        made = await super().fork(ref, body, key)
        handed_on()
        return made


class AdmittedCompletions:
    """Port `Completions` behind a gate."""

    def __init__(self, completions: Completions, gate: Gate) -> None:
        self._completions, self._gate = completions, gate

    def complete(self, request: DirectRequest) -> AsyncGenerator[DirectEvent]:
        """The other one's events.

        Raises:
            Transient: `queue_full`.
        """
        self._gate.check()
        return self._completions.complete(request)
