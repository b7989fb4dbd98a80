"""What joins a site to others: named by whoever starts the program that makes its streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.bus.connect import Bus
from shared.bus.sites import fetch_tasks, keep_copies
from shared.errors import Permanent
from shared.subjects.sites import check_site


@dataclass(frozen=True, slots=True)
class Neighbours:
    """At a hub the sites that it keeps copies of; at a site its own name and that of its hub."""

    copies: tuple[str, ...] = ()
    site: str = ""
    hub: str = ""
    monitors: tuple[str, ...] = ()
    """Where this site's servers tell of their links."""

    async def join(self, bus: Bus) -> None:
        """Add what the streams take from there, where it is missing."""
        await keep_copies(bus, self.copies)
        if self.hub:
            await fetch_tasks(bus, self.site, self.hub)


def neighbours(
    copies: Sequence[str], site: str, hub: str, monitors: Sequence[str], *, followed: bool
) -> Neighbours | None:
    """Those that were named, None without any; `followed`: their links are looked at, too.

    Raises:
        Permanent: `invalid_name`; `hub_needed`, for one name of a site and its hub;
            `monitor_needed` where nobody would say how the links are.
    """
    if bool(site) != bool(hub):
        detail = "a site takes tasks from its hub: name both, --site and --hub"
        raise Permanent("hub_needed", detail, field="hub" if site else "site")
    named = (*copies, *filter(None, (site, hub)))
    for name in named:
        check_site(name)
    if not named:
        return None
    if followed and not monitors:
        detail = "say where the servers tell of their links: --monitor http://host:8222"
        raise Permanent("monitor_needed", detail, field="monitor")
    return Neighbours(tuple(copies), site, hub, tuple(monitors))
