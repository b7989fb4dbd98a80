"""Submitting a task: the headers that make a repetition harmless, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from shared.bus import claims
from shared.bus.connect import Bus, PubAck
from shared.contracts.base import SessionRef, encode
from shared.contracts.log import KEY_HEADER, MSG_ID, TASK_HEADER
from shared.contracts.tasks import TaskSubmitted
from shared.subjects import task_subject
from shared.telemetry import requested, traceparent
from shared.trace import ROOT, TRACEPARENT, TraceContext


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a task comes from: the trace of its request (empty: derived), the id of its key, and
    the span that it is a part of, where there is one."""

    trace_id: str = ""
    key: str = ""
    parent: TraceContext | None = None


async def submit_task(
    bus: Bus,
    ref: SessionRef,
    agent: str,
    task: str,
    body: TaskSubmitted,
    origin: Origin = Origin(),  # frozen
) -> PubAck:
    """Durable when this returns. Repeating a task id in its session changes nothing.

    Raises:
        Permanent: `invalid_name`, `payload_too_large`.
        Transient: `bus_unavailable`.
    """
    headers = {
        MSG_ID: f"{ref}/{task}/task",
        TASK_HEADER: task,
        TRACEPARENT: _traceparent(ref, task, origin),
    }
    if origin.key:
        headers[KEY_HEADER] = origin.key
    return await claims.publish(bus, ref, task_subject(ref, agent), encode(body), headers)


def _traceparent(ref: SessionRef, task: str, origin: Origin) -> str:
    """Of the span that submits it; where nobody says which that is, the task's own."""
    if origin.parent is not None:
        return str(origin.parent)
    request = requested()
    if request is not None and origin.trace_id == request.trace_id:
        return str(request)
    return traceparent(ref, task, ROOT, origin.trace_id)
