"""Performs decisions on the bus: facts to RUNS, work to WORK, timers to TIMERS, stop signals."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import assert_never

from msgspec.structs import replace

from services.sessions.core.decide import Action, Append, Delegate, Publish, SetTimer, Stop
from shared.bus.connect import ApiError, Bus
from shared.bus.log import RunLog
from shared.bus.tasks import Origin, submit_task
from shared.bus.timers import set_timer
from shared.contracts.base import SessionRef, encode, step_id
from shared.contracts.facts import Done
from shared.contracts.log import MSG_ID, TASK_HEADER
from shared.contracts.tasks import CHILD, TaskSubmitted
from shared.contracts.work import RouteStep
from shared.errors import Transient
from shared.subjects import (
    ROUTE,
    TIMERS,
    abort_subject,
    ended_subject,
    timer_subject,
    tool_subject,
)
from shared.telemetry import traceparent
from shared.trace import TraceContext, span_id_of, trace_id_of

LONGEST_HINT = 64 * 1024
"""Bytes of a model call with the facts that it brings along; beyond, its worker reads the log."""


class BusEffects:
    """`Effects` on NATS."""

    def __init__(self, bus: Bus, log: RunLog) -> None:
        self._bus, self._log = bus, log
        self._background: set[asyncio.Task[None]] = set()

    async def perform(self, ref: SessionRef, action: Action) -> int:
        """See `Effects.perform`."""
        match action:
            case Append():
                place = action.ref or ref
                ack = await self._log.append(place, action.fact, trace_id=action.trace_id)
                if isinstance(action.fact, Done) and place.session.startswith(CHILD):
                    with suppress(Transient):
                        await self._bus.send(ended_subject(place), b"")  # it was for this one task
                return ack.seq
            case Publish():
                await self._publish(ref, action)
            case Delegate():
                origin = Origin(key=action.key, parent=_asking(ref, action))
                await submit_task(
                    self._bus, action.ref, action.agent, action.task, action.body, origin
                )
            case SetTimer():
                await set_timer(self._bus, ref, action.task, action.name, action.at)
            case Stop():
                await self._bus.send(abort_subject(ref, action.task), b"")
                self._later(ref, action.task)
            case _:
                assert_never(action)
        return 0

    async def submit(
        self, ref: SessionRef, agent: str, task: str, body: TaskSubmitted, key: str = ""
    ) -> int:
        """See `Effects.submit`."""
        return (await submit_task(self._bus, ref, agent, task, body, Origin(key=key))).seq

    async def _publish(self, ref: SessionRef, action: Publish) -> None:
        work = action.work
        subject = ROUTE if isinstance(work, RouteStep) else tool_subject(work.name)
        step = step_id(work.task, work.step)
        again = f"/{work.attempt}" if work.attempt > 1 else ""
        headers = {
            MSG_ID: f"{ref}/{step}/work{again}",
            TASK_HEADER: work.task,
            "traceparent": traceparent(ref, work.task, str(work.step), action.trace_id),
        }
        body = encode(work)
        if len(body) > LONGEST_HINT and isinstance(work, RouteStep):
            body = encode(replace(work, recent=None))
        await self._bus.publish(subject, body, headers)

    def _later(self, ref: SessionRef, task: str) -> None:
        """Drop the timers without making anybody wait; one that is left over fires in vain."""
        job = asyncio.create_task(self._drop_timers(ref, task))
        self._background.add(job)
        job.add_done_callback(self._background.discard)

    async def _drop_timers(self, ref: SessionRef, task: str) -> None:
        try:
            await self._bus.api(f"STREAM.PURGE.{TIMERS}", {"filter": timer_subject(ref, task, "*")})
        except (ApiError, Transient) as error:
            self._bus.log.info("timer.left", task=task, error=str(error))


def _asking(ref: SessionRef, action: Delegate) -> TraceContext | None:
    """The span of the step that asks another agent: that one's task is a part of it."""
    parent = action.body.parent
    if parent is None:
        return None
    trace = action.trace_id or trace_id_of(ref, parent.task)
    return TraceContext(trace, span_id_of(ref, parent.task, str(parent.step)))
