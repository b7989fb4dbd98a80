"""Compares what a hub holds of a site with what the site holds itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nats.aio.msg import Msg

from infra.trial.asking import again
from shared.bus.connect import Bus
from shared.bus.log import DIRECT_RUNS, Page
from shared.clock import monotonic
from shared.contracts.base import SessionRef
from shared.contracts.log import MSG_ID
from shared.errors import Transient
from shared.subjects import session_filter
from shared.subjects.sites import copy_filter

_OF_THE_SERVER = "Nats-"
"""Headers about the place of a message and how it came there; the message id is not one of them."""
_AGAIN = 0.3
TENANT = "default"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message as it must be everywhere: without its place, its sequence and its time."""

    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


def entry(subject: str, body: bytes, headers: Mapping[str, str]) -> Entry:
    """A message of a session's log, of the site's own or a copy."""
    kept = (
        (name, value)
        for name, value in headers.items()
        if name == MSG_ID or not name.startswith(_OF_THE_SERVER)
    )
    return Entry(subject.split(".", 4)[4], body, tuple(sorted(kept)))


async def _read(bus: Bus, subject: str) -> list[Entry]:
    page = Page(DIRECT_RUNS, subject)
    found: list[Entry] = []
    while not page.ended:
        messages: list[Msg] = await again(lambda: page.read(bus))
        for message in messages:
            headers = message.headers or {}
            found.append(entry(headers["Nats-Subject"], message.data, headers))
    return found


async def of_sessions(hub: Bus, site: str, names: Iterable[str]) -> dict[str, list[Entry]]:
    """What the hub holds of these sessions of a site, in the hub's order."""
    return {name: await _read(hub, copy_filter(site, SessionRef(TENANT, name))) for name in names}


async def differing(here: Bus, hub: Bus, site: str, names: Iterable[str]) -> list[str]:
    """The sessions whose copy at the hub is not equal to what the site itself holds."""
    copies = await of_sessions(hub, site, names)
    return [
        f"{name} differs from its copy"
        for name, copy in sorted(copies.items())
        if copy != await _read(here, session_filter(SessionRef(TENANT, name)))
    ]


async def complete(here: Bus, hub: Bus, site: str, within: float) -> None:
    """Wait until the hub holds a copy of everything that the site's log has now.

    Raises:
        Transient: `trial_timeout`.
    """
    end = monotonic() + within
    wanted = await again(lambda: count(here, "run.*.*.*.>"))
    while (known := await again(lambda: count(hub, f"run.{site}.>"))) < wanted:
        if monotonic() > end:
            raise Transient("trial_timeout", f"{known} of {wanted} facts came in {within:g} s")
        await asyncio.sleep(_AGAIN)


async def erased(hub: Bus, site: str, name: str, within: float) -> None:
    """Wait until a session's copy holds nothing but its deletion.

    Raises:
        Transient: `trial_timeout`.
    """
    end = monotonic() + within
    while True:
        (found,) = (await of_sessions(hub, site, [name])).values()
        if [one.kind for one in found] == ["deleted"]:
            return
        if monotonic() > end:
            raise Transient("trial_timeout", f"{len(found)} facts of {name} are still at the hub")
        await asyncio.sleep(_AGAIN)


async def count(bus: Bus, subject: str) -> int:
    """Messages on a subject of RUNS."""
    answer = await bus.api("STREAM.INFO.RUNS", {"subjects_filter": subject})
    return sum((answer["state"].get("subjects") or {}).values())
