"""API keys in memory, behind the ports of the ingress and of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey, digest_of, written
from shared.errors import Permanent

NOW = 1_790_000_000.0


@dataclass
class FakeKeys:
    """Ports `KeyStore` and `Ring`. The n-th secret ends in n, so that tests can tell them apart."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    allowances: dict[str, Allowance] = field(default_factory=dict)
    replicas: int = 1
    heard: bool = True
    made: int = 0

    def trusted(self) -> bool:
        return self.heard

    def _secret(self) -> str:
        self.made += 1
        return f"{self.made:064x}"

    def issue(self, tenant: str, order: NewKey | None = None) -> Issued:
        secret, wanted = self._secret(), order or NewKey()
        key = ApiKey(
            id=f"{self.made:016x}",
            tenant=tenant,
            digest=digest_of(secret),
            name=wanted.name,
            scopes=wanted.scopes,
            models=wanted.models,
            created=NOW,
            expires=wanted.expires,
            allowance=wanted.allowance,
        )
        self.keys[key.id] = key
        return Issued(key, written(key.id, secret))

    async def create(self, tenant: str, order: NewKey) -> Issued:
        return self.issue(tenant, order)

    async def list(self, tenant: str) -> Sequence[ApiKey]:
        return [key for key in self.keys.values() if key.tenant == tenant]

    async def get(self, tenant: str, key: str) -> ApiKey:
        known = self.keys.get(key)
        if known is None or known.tenant != tenant:
            raise Permanent("unknown_key", f"there is no API key {key!r}", field="key")
        return known

    async def revoke(self, tenant: str, key: str) -> ApiKey:
        known = await self.get(tenant, key)
        self.keys[key] = msgspec.structs.replace(known, revoked=known.revoked or NOW)
        return self.keys[key]

    async def rotate(self, tenant: str, key: str, overlap_s: float) -> Issued:
        known, secret = await self.get(tenant, key), self._secret()
        self.keys[key] = msgspec.structs.replace(
            known, digest=digest_of(secret), former=known.digest, former_until=NOW + overlap_s
        )
        return Issued(self.keys[key], written(key, secret))


@dataclass
class FakeTenantKeys:
    """The keys of one tenant, as the command line sees them."""

    store: FakeKeys = field(default_factory=FakeKeys)

    async def create(self, order: NewKey) -> Issued:
        return await self.store.create("default", order)

    async def list(self) -> Sequence[ApiKey]:
        return await self.store.list("default")

    async def get(self, key: str) -> ApiKey:
        return await self.store.get("default", key)

    async def revoke(self, key: str) -> ApiKey:
        return await self.store.revoke("default", key)

    async def rotate(self, key: str, overlap_s: float) -> Issued:
        return await self.store.rotate("default", key, overlap_s)

    async def allow(self, allowance: Allowance) -> None:
        self.store.allowances["default"] = allowance
