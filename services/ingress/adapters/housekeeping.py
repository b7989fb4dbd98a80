"""Port `Housekeeping` over the typed client."""

from __future__ import annotations

from services.ingress.adapters.bus import Link
from shared.bus.timers import forget_later
from shared.clock import now
from shared.contracts.base import SessionRef
from shared.contracts.control import DeleteReply
from shared.contracts.dead import Filed, Letters, Retried, Wanted


class BusHousekeeping:
    """Dead letters and deletions of a running system."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def letters(self, tenant: str, wanted: Wanted, after: int, limit: int) -> Letters:
        """A page of them."""
        return await self._link.client(tenant).dead().list(wanted, after, limit)

    async def letter(self, tenant: str, letter: int) -> Filed:
        """One of them."""
        return await self._link.client(tenant).dead().get(letter)

    async def retry(self, tenant: str, letter: int, by: str) -> Retried:
        """Send it again."""
        return await self._link.client(tenant).dead().retry(letter, by)

    async def delete_session(self, ref: SessionRef, *, force: bool, by: str) -> DeleteReply:
        """Forget it."""
        session = self._link.client(ref.tenant).session(ref.session)
        return await session.delete(force=force, by=by)

    async def forget_later(self, ref: SessionRef) -> None:
        """A timer of the broker, which sessions hears."""
        await forget_later(self._link.client(ref.tenant).bus, ref, now())
