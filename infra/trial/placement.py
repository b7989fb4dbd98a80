"""Who is where: which server leads which stream, which programs are connected to which server.

And as whom: each service by its own key, and by no other one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import nats.errors
from rich.table import Table

from infra.local.plan import SERVICES
from infra.local.servers import Servers
from infra.nats.keys import public_of, read_seed
from shared.bus.connect import ApiError, Bus
from shared.clock import monotonic
from shared.errors import Broken, Transient
from shared.subjects import BUCKETS, STREAMS
from shared.subjects.permissions import GRANTS

_PATIENCE = 3.0
_AGAIN = 0.3
NAMES = (*(row.name for row in STREAMS), *(f"KV_{row.name}" for row in BUCKETS))


@dataclass(frozen=True, slots=True)
class Held:
    """A stream: its leader, how many servers hold it, and how many of those are up to date."""

    leader: str
    replicas: int
    current: int

    @property
    def whole(self) -> bool:
        """Whether each server that should hold it does."""
        return bool(self.leader) and self.current == self.replicas


def held(info: Mapping[str, Any]) -> Held:
    """A stream's place, from the answer of STREAM.INFO."""
    cluster = info.get("cluster") or {}
    others = cluster.get("replicas") or ()
    leader = str(cluster.get("leader", ""))
    current = sum(bool(one.get("current")) and not one.get("offline") for one in others)
    return Held(leader, int(info["config"]["num_replicas"]), current + bool(leader))


async def streams(bus: Bus) -> dict[str, Held]:
    """Every stream and bucket of the table.

    Raises:
        Transient: `bus_unavailable` while one has no leader.
    """
    return {name: held(await bus.api(f"STREAM.INFO.{name}")) for name in NAMES}


async def leader_of(bus: Bus, stream: str) -> str:
    """The name of the server that leads a stream."""
    return held(await bus.api(f"STREAM.INFO.{stream}")).leader


async def end_of(bus: Bus, stream: str) -> int:
    """The last sequence of a stream."""
    return int((await bus.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])


async def whole_again(bus: Bus, within: float) -> float:
    """Wait until every server holds all that it should; how long that took, in seconds.

    Raises:
        Transient: `trial_timeout`.
    """
    began = monotonic()
    while monotonic() < began + within:
        try:
            behind = [name for name, one in (await streams(bus)).items() if not one.whole]
        except (Transient, ApiError, nats.errors.Error):
            behind = list(NAMES)
        if not behind:
            return monotonic() - began
        await asyncio.sleep(_AGAIN)
    raise Transient("trial_timeout", f"not whole after {within:g} s: {', '.join(behind)}")


async def connections(servers: Servers) -> dict[str, Counter[str]]:
    """The clients of each server that runs, by their names."""
    return {
        server: Counter(str(one.get("name") or "unnamed") for one in listed)
        for server, listed in (await _listed(servers)).items()
    }


async def check_users(servers: Servers) -> None:
    """Whether every service is here, and as itself.

    Raises:
        Broken: one is not.
    """
    keys = {name: public_of(read_seed(servers.keys / f"{name}.nk")) for name in GRANTS}
    every = (one for listed in (await _listed(servers)).values() for one in listed)
    if found := impostors(every, keys):
        raise Broken("; ".join(found))


def impostors(connected: Iterable[Mapping[str, Any]], keys: Mapping[str, str]) -> list[str]:
    """What is wrong with the users of these connections (of `/connz`), in words."""
    known = [(str(one.get("name")), one.get("authorized_user")) for one in connected]
    there = {name for name, _ in known}
    wrong = {name for name, user in known if name in keys and user != keys[name]}
    return [
        *(f"{name} is not connected" for name in SERVICES if name not in there),
        *(f"{name} is connected, and not as its own user" for name in sorted(wrong)),
    ]


async def _listed(servers: Servers) -> dict[str, list[dict[str, Any]]]:
    """The connections of each server that runs, as it describes them."""
    found = {}
    async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
        for name, identity in zip(servers.names, servers.identities, strict=True):
            try:
                answer = await client.get(f"{identity.health_url}/connz?auth=1")
            except httpx.HTTPError:
                continue
            found[name] = answer.json().get("connections") or []
    return found


def stream_table(found: Mapping[str, Held]) -> Table:
    """Streams by their leaders."""
    table = Table("server", "leads", title="Who leads what", title_justify="left")
    leaders: dict[str, list[str]] = {}
    for name, one in found.items():
        leaders.setdefault(one.leader, []).append(name)
    for leader in sorted(leaders):
        table.add_row(leader, ", ".join(leaders[leader]))
    return table


def connection_table(found: Mapping[str, Counter[str]]) -> Table:
    """Programs by the server that they talk to."""
    table = Table("server", "connected", title="Who is connected where", title_justify="left")
    for server, names in found.items():
        shown = (f"{name} x{n}" if n > 1 else name for name, n in sorted(names.items()))
        table.add_row(server, ", ".join(shown))
    return table
