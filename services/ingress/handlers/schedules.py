"""Schedules over HTTP: check, store, show."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from services.ingress.core.access.caller import Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.tasks.control import ScheduleBody
from services.ingress.core.tasks.state import Json, full
from services.ingress.ports import Catalog, Schedules
from shared.contracts.schedules import Scheduled


@dataclass(frozen=True, slots=True)
class ScheduleHandlers:
    """`/v1/schedules`."""

    schedules: Schedules
    catalog: Catalog

    async def put(self, caller: Caller, name: str, body: ScheduleBody) -> Json:
        """Store a schedule.

        Raises:
            Permanent: `unknown_agent`, `invalid_schedule`, `invalid_name`.
        """
        caller.check_model(f"agent:{body.agent}", "agent")
        find_agent(body.agent, await self.catalog.agents(caller.tenant), "agent")
        schedule = replace(body.as_schedule(), key=caller.key)
        sequence = await self.schedules.put(caller.tenant, name, schedule)
        return {"name": name, "sequence": sequence}

    async def get(self, caller: Caller, name: str) -> Json:
        """A schedule and when it fires.

        Raises:
            Permanent: `unknown_schedule`.
        """
        return _shown(await self.schedules.get(caller.tenant, name))

    async def list(self, caller: Caller) -> Json:
        """All of them, by name."""
        found = await self.schedules.list(caller.tenant)
        return {"schedules": [_shown(one) for one in found]}

    async def delete(self, caller: Caller, name: str) -> Json:
        """Remove a schedule; what it has submitted goes on.

        Raises:
            Permanent: `unknown_schedule`.
        """
        await self.schedules.delete(caller.tenant, name)
        return {"name": name, "deleted": True}


def _shown(one: Scheduled) -> Json:
    """Times in epoch seconds, null for what is not known."""
    kept, task = one.schedule, one.schedule.task
    return {
        "name": one.name,
        "agent": kept.agent,
        "session": kept.session or None,
        "input": full(task.input),
        "at": kept.at,
        "every_s": kept.every_s,
        "cron": kept.cron or None,
        "zone": kept.zone or None,
        "limits": full(task.limits),
        "metadata": task.metadata,
        "on_busy": task.on_busy,
        "priority": task.priority,
        "sequence": one.sequence,
        "created": one.created,
        "last": one.last or None,
        "next": one.next or None,
    }
