"""The bodies of `/v1/keys`, and how a key is shown: never its digest, its secret once."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from services.ingress.core.tasks.bodies import Body
from shared.contracts.keys import Allowance, ApiKey, Issued, NewKey, Scope, state_of

DAY = 86_400.0
_YEARS = 10 * 366 * DAY
Limit = Annotated[int | None, Field(ge=0, description="0 for none")]


class AllowanceBody(Body):
    """Bounds of one key, beside those of its tenant."""

    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    concurrency: Limit = None
    max_streams: Limit = None
    budget_per_day: Limit = None
    budget_per_month: Limit = None


class KeyBody(Body):
    """`POST /v1/keys`."""

    name: str = Field(default="", max_length=200)
    scopes: list[Scope] = Field(default=list(NewKey().scopes), min_length=1, max_length=6)
    models: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default=[], max_length=100, description="routes, models, agent:<name>; x* for a prefix"
    )
    expires_in_s: float | None = Field(default=None, gt=0, le=_YEARS)
    limits: AllowanceBody | None = None

    def as_order(self, now: float) -> NewKey:
        """What is asked for."""
        limits = self.limits or AllowanceBody()
        return NewKey(
            self.name,
            tuple(self.scopes),
            tuple(self.models),
            0.0 if self.expires_in_s is None else now + self.expires_in_s,
            Allowance(**limits.model_dump()),
        )


class RotateBody(Body):
    """`POST /v1/keys/{key}/rotate`."""

    overlap_s: float = Field(
        default=DAY, ge=0, le=30 * DAY, description="for how long the old secret stays valid"
    )


def key_json(key: ApiKey, now: float) -> dict[str, Any]:
    """A key as people see it."""
    allowance = key.allowance
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "state": state_of(key, now),
        "scopes": list(key.scopes),
        "models": list(key.models),
        "created": key.created,
        "expires": key.expires or None,
        "revoked": key.revoked or None,
        "old_secret_until": key.former_until if key.former_until > now else None,
        "limits": {name: getattr(allowance, name) for name in Allowance.__struct_fields__},
    }


def issued_json(issued: Issued, now: float) -> dict[str, Any]:
    """A key with its secret, this once."""
    return key_json(issued.key, now) | {"key": issued.secret}
