"""Who asks: the tenant, and the trace that the request belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from shared.contracts.base import check_token
from shared.contracts.work import DirectRequest
from shared.errors import Permanent

TENANT_HEADER = "X-Millrace-Tenant"
SESSION_HEADER = "Millrace-Session"
"""In answers the session of a task; in requests of `/v1/messages` the session to go on with."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated side of a request. Without `models` it may use all of them."""

    tenant: str = "default"
    trace_id: str = ""
    models: tuple[str, ...] = ()
    key: str = ""

    def own(self, key: str) -> str:
        """An idempotency key as the caller's own: another API key may use the same word."""
        return f"{self.key}\0{key}" if self.key else key

    def signed(self, request: DirectRequest) -> DirectRequest:
        """With the key and the trace of this request, for the usage fact."""
        return replace(request, key=self.key, trace_id=self.trace_id)

    def may_use(self, name: str) -> bool:
        """Whether this may stand in `model`; an agent is called `agent:<name>` here."""
        return not self.models or any(_matches(one, name) for one in self.models)

    def check_model(self, name: str, field: str = "model") -> None:
        """Refuse a route, model or agent that the caller's key is not for.

        Raises:
            Permanent: `model_not_allowed`.
        """
        if not self.may_use(name):
            raise Permanent(
                "model_not_allowed", f"the API key is not for {name[:120]!r}", field=field
            )


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def tenant_of(header: str | None) -> str:
    """The tenant that a trusted header names; `default` where there is none.

    Raises:
        Permanent: `invalid_name`; names with a leading underscore are ours.
    """
    if header is None:
        return "default"
    if header.startswith("_"):
        raise Permanent("invalid_name", "names with a leading _ are reserved", field=TENANT_HEADER)
    return check_token(header, TENANT_HEADER)
