"""Schedules that fire: each firing submits its task, once.

Task and message id derive from the schedule's name and the firing's place in TIMERS, so a firing
that is delivered again names the same task.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from services.sessions.adapters.firings import beside
from shared.bus.connect import Bus
from shared.bus.consume import Delivery, Job
from shared.bus.tasks import Origin, submit_task
from shared.contracts.base import SessionRef, as_token, decode
from shared.contracts.schedules import Schedule
from shared.subjects import parse_due


@dataclass(frozen=True, slots=True)
class Firing:
    """A schedule is due."""

    tenant: str
    name: str
    sequence: int
    schedule: Schedule

    @property
    def task(self) -> str:
        """The id of the task of this firing."""
        return as_token(f"{self.name}-{self.sequence}")

    @property
    def ref(self) -> SessionRef:
        """Its session: the schedule's, or one named after the task, where it is looked for."""
        return SessionRef(self.tenant, self.schedule.session or as_token(f"s-{self.task}"))


def firing_of(delivery: Delivery) -> Firing | None:
    """The firing in a message of TIMERS; None for a timer of a task.

    Raises:
        Permanent: `invalid_message`.
    """
    found = parse_due(delivery.subject)
    if found is None:
        return None
    return Firing(*found, delivery.sequence, decode(delivery.body, Schedule))


async def submit(bus: Bus, firing: Firing) -> None:
    """Publish the task of a firing.

    Raises:
        Permanent: `invalid_name`.
        Transient: `bus_unavailable`.
    """
    schedule = firing.schedule
    labels = {**schedule.task.metadata, "schedule": firing.name}
    task = replace(schedule.task, metadata=labels)
    origin = Origin(key=schedule.key)
    await submit_task(bus, firing.ref, schedule.agent, firing.task, task, origin)


def with_schedules[M](bus: Bus, job: Job[M]) -> Job[M | Firing]:
    """The job of the timers, with schedules among them."""

    async def handle(firing: Firing) -> None:
        await submit(bus, firing)

    return beside(job, Firing, firing_of, handle)
