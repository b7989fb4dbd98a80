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

    By itself it does so after 40 seconds, and after a long outage up to two minutes later. Where
    it goes on from is written in what it has copied, so nothing comes twice.
    """
    for stream in (RUNS, BLOBS):
        config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        if config.get("sources"):
            await bus.api(f"STREAM.UPDATE.{stream}", {**config, "sources": []})
            await bus.api(f"STREAM.UPDATE.{stream}", config)


async def _add(bus: Bus, sources: Mapping[str, Source]) -> None:
    """Add a source to each of these streams, where it is not there already."""
    for stream, source in sources.items():
        config = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        known = config.get("sources") or []
        wanted = source.config()
        if not any(_is_same(one, wanted) for one in known):
            await bus.api(f"STREAM.UPDATE.{stream}", {**config, "sources": [*known, wanted]})


def _is_same(known: Mapping[str, object], wanted: Mapping[str, object]) -> bool:
    """Whether both take the same stream of the same domain; the server adds fields of its own."""
    return known.get("name") == wanted["name"] and _api(known) == _api(wanted)


def _api(source: Mapping[str, object]) -> object:
    external = source.get("external")
    return external.get("api") if isinstance(external, Mapping) else None
