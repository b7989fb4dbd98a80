"""Who may call what: the key that a request carries, and the scope that its path needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.ingress.core.access.caller import Caller, tenant_of
from shared.contracts.keys import ApiKey, Scope, check_key, parse_key
from shared.errors import Permanent

PROTOCOL = "millrace"
KEY_PROTOCOL = "millrace-key."
"""A browser's WebSocket can send no header of its choice but its protocols: it offers `millrace`
and `millrace-key.<key>`. A query parameter is refused, because addresses are logged everywhere."""
PUBLIC = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect"})
_SCOPES: dict[str, Scope] = {
    "chat": "inference",
    "completions": "inference",
    "messages": "inference",
    "responses": "inference",
    "conversations": "inference",
    "embeddings": "inference",
    "models": "inference",
    "tasks": "tasks",
    "schedules": "tasks",
    "dead": "tasks",
    "sessions": "sessions",
    "collections": "documents",
    "usage": "usage",
    "requests": "usage",
}


@dataclass(frozen=True, slots=True)
class Presented:
    """The headers of a request that matter here."""

    authorization: str | None = None
    api_key: str | None = None
    protocols: tuple[str, ...] = ()
    tenant: str | None = None


def key_in(presented: Presented) -> str:
    """The key as it was sent.

    Raises:
        Permanent: `missing_api_key`; `invalid_api_key` for two that differ.
    """
    found: list[str] = []
    if presented.authorization is not None:
        kind, _, rest = presented.authorization.partition(" ")
        if kind.lower() == "bearer":
            found.append(rest.strip())
    if presented.api_key is not None:
        found.append(presented.api_key)
    found += [
        one.removeprefix(KEY_PROTOCOL)
        for one in presented.protocols
        if one.startswith(KEY_PROTOCOL)
    ]
    if not found:
        raise Permanent(
            "missing_api_key", "send your API key as 'Authorization: Bearer mr_...' or 'x-api-key'"
        )
    if len(set(found)) > 1:
        raise Permanent("invalid_api_key", "the request carries two API keys that differ")
    return found[0]


def authenticate(keys: Mapping[str, ApiKey], presented: Presented, now: float) -> ApiKey:
    """Whose request it is.

    Raises:
        Permanent: `missing_api_key`, `invalid_api_key`, `key_expired`.
    """
    found = parse_key(key_in(presented)) or ("", "")
    return check_key(keys.get(found[0]), found[1], now)


def scope_of(path: str) -> Scope:
    """What a path needs. One that the table does not know needs the most: it fails closed."""
    return _SCOPES.get(_group(path), "admin")


def family_of(path: str) -> str:
    """What a path begins with, for those who do not know its route; "" where there is no such."""
    group = _group(path)
    return f"/v1/{group}" if group in _SCOPES else ""


def _group(path: str) -> str:
    parts = path.split("/", 3)
    return parts[2] if len(parts) > 2 and parts[1] == "v1" else ""


def authorize(key: ApiKey, path: str, tenant: str | None, trace_id: str) -> Caller:
    """The caller that a key makes of a request.

    The tenant is the key's; only `admin` may name another one.

    Raises:
        Permanent: `scope_denied`, `invalid_name`.
    """
    admin = "admin" in key.scopes
    needed = scope_of(path)
    if not admin and needed not in key.scopes:
        has = ", ".join(key.scopes)
        raise Permanent("scope_denied", f"this needs the scope {needed}; the API key has {has}")
    whose = tenant_of(tenant) if admin and tenant is not None else key.tenant
    return Caller(whose, trace_id, key.models, key.id)
