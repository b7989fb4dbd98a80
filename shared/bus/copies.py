"""What a hub holds of the sessions of its sites: facts to look at, on which nobody acts.

Sequences and times of a copy are the hub's (decision record 0044), so they are no cursors for the
site, and nothing can be asked of a copied task here.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.bus.connect import Bus
from shared.bus.log import RunLog, last_message
from shared.contracts.base import SessionRef, check_token
from shared.contracts.log import StoredFact
from shared.subjects import RUNS
from shared.subjects.sites import check_site, copy_filter, site_of


@dataclass(frozen=True, slots=True)
class Copied:
    """The session of a site that has a task."""

    site: str
    ref: SessionRef


class Copies:
    """The copies in this hub's RUNS."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def find(self, tenant: str, task: str, site: str = "") -> Copied | None:
        """Where an accepted or refused task ran, at a given site or at any; the newest, if several.

        Raises:
            Permanent: `invalid_name`.
            Transient: `bus_unavailable`.
        """
        at = check_site(site) if site else "*"
        for kind in ("accepted", "done"):
            subject = f"run.{at}.{tenant}.*.{kind}.{check_token(task, 'task')}"
            message = await last_message(self._bus, RUNS, subject)
            found = (message.headers or {})["Nats-Subject"] if message is not None else ""
            if name := site_of(found):
                return Copied(name, SessionRef(tenant, found.split(".")[3]))
        return None

    async def read(self, copied: Copied, after: int = 0) -> list[StoredFact]:
        """The session's own facts; those that a fork took over are in its parent's copy.

        Raises:
            Permanent: `invalid_name`.
            Transient: `bus_unavailable`.
        """
        for name, value in (("tenant", copied.ref.tenant), ("session", copied.ref.session)):
            check_token(value, name)
        return await RunLog(self._bus).read_filter(copy_filter(copied.site, copied.ref), after)
