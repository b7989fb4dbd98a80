"""API keys at a replica: the port `KeyStore`, and the ring that follows the bucket.

No request asks anybody. A watch tells of each change at once; a look at the bucket every second
finds what the watch has missed, and shows that the broker is still heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import nats.errors

from services.ingress.adapters.bus import Link
from shared.bus.connect import Bus
from shared.bus.kv import Entry, KeyValue
from shared.clock import mint_id, monotonic
from shared.contracts.base import decode
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey
from shared.errors import MillraceError
from shared.keys import Keys
from shared.subjects import KEYS, MEMBERS, TENANTS, Bucket
from shared.telemetry import Log

TRUSTED_FOR = 60.0
"""Seconds without a word of the broker after which no key is trusted: one may be revoked."""
_LOOK = 1.0
_ANNOUNCE = 3.0
_SERVICE = "ingress"


class BusKeys:
    """Port `KeyStore`."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def create(self, tenant: str, order: NewKey) -> Issued:
        """Make a key."""
        return await self._of(tenant).create(order)

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        """The tenant's."""
        return await self._of(tenant).list()

    async def get(self, tenant: str, key: str) -> ApiKey:
        """One of them."""
        return await self._of(tenant).get(key)

    async def revoke(self, tenant: str, key: str) -> ApiKey:
        """End a key."""
        return await self._of(tenant).revoke(key)

    async def rotate(self, tenant: str, key: str, overlap_s: float) -> Issued:
        """Give it a new secret."""
        return await self._of(tenant).rotate(key, overlap_s)

    def _of(self, tenant: str) -> Keys:
        return Keys(self._link.client(tenant).bus, tenant)


class KeyRing:
    """Port `Ring`."""

    def __init__(self, link: Link, log: Log) -> None:
        self._link, self._log = link, log
        self._keys: dict[str, ApiKey] = {}
        self._allowances: dict[str, Allowance] = {}
        self._seen: dict[str, int] = {}
        self._heard = self._announced = float("-inf")
        self._watched: Bus | None = None
        self._member = f"{_SERVICE}.{mint_id('http')}"
        self._replicas = 1
        self.changed = asyncio.Event()
        """Set when a key or a limit has changed; whoever waits for it clears it."""

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """By id."""
        return self._keys

    @property
    def allowances(self) -> Mapping[str, Allowance]:
        """By tenant."""
        return self._allowances

    @property
    def replicas(self) -> int:
        """How many share the limits."""
        return self._replicas

    def trusted(self) -> bool:
        """Whether the broker was heard of late."""
        return monotonic() - self._heard < TRUSTED_FOR

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Follow the bucket meanwhile."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if self._watched is not None:
                with suppress(MillraceError, nats.errors.Error):
                    await KeyValue(self._watched, MEMBERS).delete(self._member)

    async def _follow(self) -> None:
        while True:
            try:
                await self._look(self._link.client().bus)
            except (MillraceError, nats.errors.Error) as error:
                if self._heard > 0 and monotonic() - self._heard > TRUSTED_FOR:
                    self._log.warning("ingress.keys_unheard", error=type(error).__name__)
            await asyncio.sleep(_LOOK)

    async def _look(self, bus: Bus) -> None:
        if self._watched is not bus:
            await KeyValue(bus, KEYS).watch(self._key_changed)
            await KeyValue(bus, TENANTS).watch(self._tenant_changed)
            self._watched = bus
        if await self._moved(bus, KEYS):
            found = [self._key_of(entry) for entry in await KeyValue(bus, KEYS).entries()]
            keys = [self._newer(key) for key in found if key is not None]
            self._keys = {key.id: key for key in keys}
            self.changed.set()
        if await self._moved(bus, TENANTS):
            entries = await KeyValue(bus, TENANTS).entries()
            self._allowances = {one.key: self._allowance_of(one) for one in entries}
            self.changed.set()
        self._heard = monotonic()
        if self._heard - self._announced > _ANNOUNCE:
            members = KeyValue(bus, MEMBERS)
            await members.put(self._member, b"{}")
            self._replicas = max(1, len(await members.entries(f"{_SERVICE}.*")))
            self._announced = self._heard

    async def _moved(self, bus: Bus, bucket: Bucket) -> bool:
        """Whether something was written since the last look."""
        info = await bus.api(f"STREAM.INFO.KV_{bucket.name}")
        last = int(info["state"]["last_seq"])
        moved = self._seen.get(bucket.name) != last
        self._seen[bucket.name] = last
        return moved

    async def _key_changed(self, entry: Entry) -> None:
        key = self._key_of(entry) if entry.value else None
        if key is None:
            self._keys.pop(entry.key, None)
        else:
            self._keys[key.id] = self._newer(key)
        self.changed.set()

    async def _tenant_changed(self, entry: Entry) -> None:
        if entry.value:
            self._allowances[entry.key] = self._allowance_of(entry)
        else:
            self._allowances.pop(entry.key, None)
        self.changed.set()

    def _newer(self, key: ApiKey) -> ApiKey:
        """A page may hold what the watch has overtaken."""
        known = self._keys.get(key.id)
        return known if known is not None and known.revision > key.revision else key

    def _key_of(self, entry: Entry) -> ApiKey | None:
        """None for what is no key of ours: nobody gets in by it."""
        try:
            key = decode(entry.value, ApiKey)
        except MillraceError:
            key = None
        if key is None or key.id != entry.key:
            self._log.warning("ingress.strange_key", key=entry.key)
            return None
        return key

    def _allowance_of(self, entry: Entry) -> Allowance:
        try:
            return decode(entry.value, Allowance)
        except MillraceError:
            self._log.warning("ingress.strange_tenant", tenant=entry.key)
            return Allowance()
