"""Port `Keyed` over KV `requests`: of two replicas that take a name at once the bucket decides."""

from __future__ import annotations

import asyncio

from services.ingress.adapters.bus import Link
from services.ingress.core.tasks.repetition import check_same_request
from shared.bus.kv import KeyValue
from shared.errors import Permanent, Transient
from shared.subjects import REQUESTS

_TRIES = 20
_BEHIND = 0.05
"""Seconds between looks at a server that is behind its cluster."""


class BusKeyed:
    """A name that was given back holds an empty value: a revision that can be replaced."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def take(self, tenant: str, name: str, fingerprint: str) -> bool:
        """One write where the name is free, and a read where it is not."""
        bucket, revision = self._bucket(tenant), 0
        for _ in range(_TRIES):
            if await _written(bucket, f"{tenant}.{name}", fingerprint.encode(), revision):
                return True
            found = await bucket.get(f"{tenant}.{name}")
            if found is not None and found.value:
                check_same_request(found.value.decode(), fingerprint)
                return False
            if found is None or found.revision == revision:
                await asyncio.sleep(_BEHIND)
            else:
                revision = found.revision
        raise Transient("bus_unavailable", "what the key stands for cannot be read")

    async def give_back(self, tenant: str, name: str) -> None:
        """An empty value."""
        await self._bucket(tenant).put(f"{tenant}.{name}", b"")

    def _bucket(self, tenant: str) -> KeyValue:
        return KeyValue(self._link.client(tenant).bus, REQUESTS)


async def _written(bucket: KeyValue, place: str, value: bytes, revision: int) -> bool:
    try:
        await bucket.put(place, value, revision)
    except Permanent as error:
        if error.code != "wrong_last_sequence":
            raise
        return False
    return True
