"""The ingress's port `Schedules` over the typed client."""

from __future__ import annotations

from collections.abc import Sequence

from services.ingress.adapters.bus import Link
from shared.contracts.schedules import Schedule, Scheduled


class BusSchedules:
    """Port `Schedules`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def put(self, tenant: str, name: str, schedule: Schedule) -> int:
        """Store one."""
        return await self._link.client(tenant).schedules.put(name, schedule)

    async def get(self, tenant: str, name: str) -> Scheduled:
        """One of them."""
        return await self._link.client(tenant).schedules.get(name)

    async def list(self, tenant: str) -> Sequence[Scheduled]:
        """All, by name."""
        return await self._link.client(tenant).schedules.list()

    async def delete(self, tenant: str, name: str) -> None:
        """Remove one."""
        await self._link.client(tenant).schedules.delete(name)
