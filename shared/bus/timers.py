"""Durable timers: schedules of the server, so that no process sleeps for them (ADR 0016)."""

from __future__ import annotations

from shared.bus.connect import Bus
from shared.contracts.base import SessionRef
from shared.contracts.log import TASK_HEADER
from shared.contracts.schedules import instant
from shared.subjects import FIRED_FOR, fired_subject, timer_subject

UNKEPT, FORGET = "~", "forget"
"""Task and name of the timer of a session that is not to be kept; no task is called that."""
UNKEPT_FOR = 3600.0
"""Seconds without a word after which such a session is forgotten, whoever was to see to it."""


async def set_timer(bus: Bus, ref: SessionRef, task: str, name: str, at: float) -> None:
    """Let a timer of a task fire at a time (epoch seconds), in the place of one of its name.

    Raises:
        Transient: `bus_unavailable`.
    """
    headers = {
        "Nats-Schedule": f"@at {instant(at)}",  # a fraction less would be up to a second early
        "Nats-Schedule-Target": fired_subject(ref, task, name),
        "Nats-Schedule-TTL": FIRED_FOR,
        TASK_HEADER: task,
    }
    await bus.publish(timer_subject(ref, task, name), b"{}", headers)


async def forget_later(bus: Bus, ref: SessionRef, now: float) -> None:
    """Have a session deleted once nothing has been said in it for `UNKEPT_FOR`.

    Raises:
        Transient: `bus_unavailable`.
    """
    await set_timer(bus, ref, UNKEPT, FORGET, now + UNKEPT_FOR)
