"""Joins sites: adds to the streams of one what they take from another one. Idempotent.

The link itself (a leaf node, and what may cross it) is the servers' configuration; see
`shared.subjects.sites` for what is taken, and decision record 0044 for why so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.bus.connect import Bus
from shared.bus.topology import ensure_stream, stream_config
from shared.subjects import BLOBS, RUNS
from shared.subjects.sites import Source, copied, fetched, outbox


async def keep_copies(bus: Bus, sites: Iterable[str]) -> None:
    """At the hub: an outbox for each site, and copies of its facts."""
    for site in sites:
        await ensure_stream(bus, stream_config(outbox(site), bus.replicas))
        await _add(bus, copied(site))


async def fetch_tasks(bus: Bus, site: str, hub: str) -> None:
    """At a site: take the tasks that wait for it at the hub."""
    await _add(bus, fetched(site, hub))


async def resume(bus: Bus) -> None:
    """Have the server look for its sources now.

    By itself it does so up to a minute after a break (measured: ADR 0044). Where it goes on from is
    written in what it has copied, so nothing comes twice.
    """
    for stream in (RUNS, BLOBS):
        config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        if config.get("sources"):
            await bus.api(f"STREAM.UPDATE.{stream}", {**config, "sources": []})
            await bus.api(f"STREAM.UPDATE.{stream}", config)


async def _add(bus: Bus, sources: Mapping[str, Source]) -> None:
    """Add a source to each of these streams, in the place of one of the same origin."""
    for stream, source in sources.items():
        config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        known, wanted = config.get("sources") or [], source.config()
        if wanted not in known:
            others = [one for one in known if _origin(one) != _origin(wanted)]
            await bus.api(f"STREAM.UPDATE.{stream}", {**config, "sources": [*others, wanted]})


def _origin(source: Mapping[str, object]) -> tuple[object, object]:
    """The stream and the domain that a source takes from."""
    external = source.get("external")
    return source.get("name"), external.get("api") if isinstance(external, Mapping) else None
