"""The operator's side of API keys: make, list, revoke, rotate. KV `keys` is where they are kept."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from shared import clock
from shared.bus.connect import Bus
from shared.bus.kv import KeyValue
from shared.contracts.base import check_token, decode, encode
from shared.contracts.keys import SCOPES, Allowance, ApiKey, Issued, NewKey, digest_of, written
from shared.errors import Permanent, Transient
from shared.subjects import KEYS, TENANTS

_TRIES = 5


class Keys:
    """The keys of a tenant."""

    def __init__(self, bus: Bus, tenant: str) -> None:
        if tenant.startswith("_"):
            raise Permanent("invalid_name", "names with a leading _ are reserved", field="tenant")
        self._tenant = check_token(tenant, "tenant")
        self._kv, self._tenants = KeyValue(bus, KEYS), KeyValue(bus, TENANTS)

    async def create(self, order: NewKey) -> Issued:
        """Make a key. Its secret is in the answer and nowhere else.

        Raises:
            Permanent: `invalid_key` for no or unknown scopes, or an end that has passed.
            Transient: `bus_unavailable`.
        """
        _check(order, clock.now())
        secret = secrets.token_hex(32)
        key = ApiKey(
            id=secrets.token_hex(8),
            tenant=self._tenant,
            digest=digest_of(secret),
            name=order.name,
            scopes=order.scopes,
            models=order.models,
            created=clock.now(),
            expires=order.expires,
            allowance=order.allowance,
            revision=1,
        )
        await self._kv.put_surely(key.id, encode(key), expected=0)
        return Issued(key, written(key.id, secret))

    async def list(self) -> Sequence[ApiKey]:
        """All of the tenant, the oldest first; also those that are valid no more."""
        found = [decode(entry.value, ApiKey) for entry in await self._kv.entries()]
        own = [key for key in found if key.tenant == self._tenant]
        return sorted(own, key=lambda key: (key.created, key.id))

    async def get(self, key: str) -> ApiKey:
        """One of them.

        Raises:
            Permanent: `unknown_key`, also for a key of another tenant.
        """
        return (await self._read(key))[0]

    async def revoke(self, key: str) -> ApiKey:
        """End a key, now and for good; harmless where it has ended already.

        Raises:
            Permanent: `unknown_key`.
        """

        def revoked(known: ApiKey) -> dict[str, Any]:
            return {"revoked": known.revoked or clock.now()}

        return await self._change(key, revoked)

    async def rotate(self, key: str, overlap_s: float) -> Issued:
        """Give a key a new secret; the one before stays valid for `overlap_s` seconds.

        Raises:
            Permanent: `unknown_key`, `key_ended` for one that was revoked.
        """
        secret = secrets.token_hex(32)

        def rotated(known: ApiKey) -> dict[str, Any]:
            if known.revoked:
                raise Permanent("key_ended", f"{key} has been revoked; make a new one", field="key")
            until = clock.now() + overlap_s
            return {"digest": digest_of(secret), "former": known.digest, "former_until": until}

        changed = await self._change(key, rotated)
        return Issued(changed, written(changed.id, secret))

    async def allow(self, allowance: Allowance) -> None:
        """Set how much the tenant may ask for, with all its keys together."""
        await self._tenants.put_surely(self._tenant, encode(allowance))

    async def _read(self, key: str) -> tuple[ApiKey, int]:
        entry = await self._kv.get(check_token(key, "key"))
        known = decode(entry.value, ApiKey) if entry else None
        if entry is None or known is None or known.tenant != self._tenant:
            raise Permanent("unknown_key", f"there is no API key {key!r}", field="key")
        return known, entry.revision

    async def _change(self, key: str, change: Callable[[ApiKey], dict[str, Any]]) -> ApiKey:
        for _ in range(_TRIES):
            known, revision = await self._read(key)
            fields = change(known) | {"revision": known.revision + 1}
            changed = msgspec.structs.replace(known, **fields)
            try:
                await self._kv.put_surely(key, encode(changed), expected=revision)
            except Permanent as error:
                if error.code != "wrong_last_sequence":
                    raise
            else:
                return changed
        raise Transient("bus_unavailable", f"others change the API key {key} at the same time")


def _check(order: NewKey, now: float) -> None:
    if not order.scopes or set(order.scopes) - set(SCOPES):
        raise Permanent("invalid_key", f"scopes are {', '.join(SCOPES)}", field="scopes")
    if 0 < order.expires <= now:
        raise Permanent("invalid_key", "it would have expired already", field="expires")
