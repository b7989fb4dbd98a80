"""Notices that a link to another site is back, and has the streams look for their sources at once.

A server looks by itself up to a minute after a break, and no setting changes that (decision record
0044). Whoever made the streams has the right to have it look, so this runs beside that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

import httpx
import orjson

from shared.bus.connect import Bus, open_bus
from shared.bus.sites import resume
from shared.errors import MillraceError
from shared.settings import Address
from shared.subjects.permissions import ADMIN
from shared.telemetry import Log

EVERY = 1.0
_PATIENCE = 2.0
_JOIN_EVERY = 10
"""Looks between two times that the sources are made sure of, see `Follower`."""
Join = Callable[[Bus], Coroutine[None, None, None]]
Link = tuple[str, int]
"""A connection: the run of a server that has it, and its number there."""


class Links:
    """The links that the servers of a site have, as their monitoring tells."""

    def __init__(self, client: httpx.AsyncClient, monitors: Sequence[str]) -> None:
        self._client, self._monitors = client, monitors
        self._known: frozenset[Link] = frozenset()

    async def new(self) -> frozenset[Link]:
        """Those that were not there at the last look; whoever opened them."""
        found = frozenset().union(*[await self._of(url) for url in self._monitors])
        new, self._known = found - self._known, found
        return new

    def forget(self, links: frozenset[Link]) -> None:
        """Count them as new again: nothing came of it."""
        self._known -= links

    async def _of(self, url: str) -> frozenset[Link]:
        """None of a server that does not answer: its links are lost, or will be new."""
        try:
            answer = await self._client.get(f"{url}/leafz")
            found = orjson.loads(answer.raise_for_status().content)
            return frozenset((found["server_id"], one["id"]) for one in found.get("leafs") or ())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
            return frozenset()


class Follower:
    """Once for each link that comes up. Harmless where nothing was lost: nothing is taken twice.

    `join` adds the sources where they are missing. A service that brings the streams up to their
    rows at that very moment does not see them, and would leave them out for ever.
    """

    def __init__(self, bus: Bus, links: Links, join: Join) -> None:
        self._bus, self._links, self._join = bus, links, join
        self._looks = 0

    async def look(self) -> bool:
        """Whether there was a new link, after which the streams have looked."""
        new = await self._links.new()
        try:
            if new:
                await resume(self._bus)
                self._bus.log.info("links.resumed", links=len(new))
            if new or self._looks % _JOIN_EVERY == 0:
                await self._join(self._bus)
            self._looks += 1
        except MillraceError as error:
            self._links.forget(new)
            self._bus.log.warning("links.retry", error=str(error))
            return False
        return bool(new)


async def follow(
    address: Address, monitors: Sequence[str], join: Join, log: Log, every: float = EVERY
) -> None:
    """Look for ever, until this is cancelled."""
    async with (
        open_bus(address, ADMIN, log) as bus,
        httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client,
    ):
        follower = Follower(bus, Links(client, monitors), join)
        while True:
            await follower.look()
            await asyncio.sleep(every)
