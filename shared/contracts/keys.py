"""API keys as they are kept in KV `keys`, and what is allowed with one. No secret is kept.

A key reads `mr_<id>_<secret>`. The secret is 256 random bits, so a fast hash of it is as good as a
slow one: there is no dictionary to try (decision record 0026).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from shared.errors import Permanent

Scope = Literal["inference", "tasks", "sessions", "documents", "usage", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""Groups of paths. `admin` may do everything, in the name of every tenant."""
_KEY = re.compile(r"mr_([0-9a-f]{16})_([0-9a-f]{64})")
_NOBODY = "0" * 64


class Allowance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much may be asked for; None leaves it to the next wider setting, 0 is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    max_streams: int | None = None
    """Event streams and sockets that are open at the same time."""
    budget_per_day: int | None = None
    """Millionths of a cent in a UTC day; likewise `budget_per_month`."""
    budget_per_month: int | None = None


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key without its secret. Times in epoch seconds, 0 for never."""

    id: str
    tenant: str
    digest: str
    name: str = ""
    scopes: tuple[Scope, ...] = ()
    models: tuple[str, ...] = ()
    """Names that may stand in `model` or `agent`; a trailing `*` matches any end; none: all."""
    created: float = 0.0
    expires: float = 0.0
    revoked: float = 0.0
    former: str = ""
    """The digest of the secret before the last rotation, valid until `former_until`."""
    former_until: float = 0.0
    allowance: Allowance = Allowance()
    revision: int = 0
    """Counts the changes, so that a reader knows which of two versions is the newer one."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """What somebody asks for."""

    name: str = ""
    scopes: tuple[Scope, ...] = ("inference", "tasks", "sessions", "documents", "usage")
    models: tuple[str, ...] = ()
    expires: float = 0.0
    allowance: Allowance = field(default_factory=Allowance)


@dataclass(frozen=True, slots=True)
class Issued:
    """A key with its secret: shown once, to whom asked for it. Its print hides the secret."""

    key: ApiKey
    secret: str = field(repr=False)


def written(key: str, secret: str) -> str:
    """The key as its owner sends it."""
    return f"mr_{key}_{secret}"


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"millrace-key").hexdigest()


def parse_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key as it was sent; None for what is none."""
    found = _KEY.fullmatch(text)
    return (found.group(1), found.group(2)) if found else None


def check_key(known: ApiKey | None, secret: str, now: float) -> ApiKey:
    """The key, if this is its secret and it is valid now.

    The work is the same for a key that there is not. Only who knows the secret learns that a key
    has expired or was revoked.

    Raises:
        Permanent: `invalid_api_key`, `key_expired`.
    """
    given = digest_of(secret)
    current = hmac.compare_digest(given, known.digest if known else _NOBODY)
    former = hmac.compare_digest(given, (known.former if known else "") or _NOBODY)
    if known is None or not (current or former):
        raise Permanent("invalid_api_key", "there is no such API key")
    if known.revoked:
        raise Permanent("invalid_api_key", f"the API key {known.id} has been revoked")
    if 0 < known.expires <= now:
        raise Permanent("key_expired", f"the API key {known.id} has expired; ask for a new one")
    if not current and known.former_until <= now:
        raise Permanent("key_expired", f"the API key {known.id} was rotated; use its new secret")
    return known


def state_of(key: ApiKey, now: float) -> str:
    """`active`, `expired` or `revoked`."""
    if key.revoked:
        return "revoked"
    return "expired" if 0 < key.expires <= now else "active"
