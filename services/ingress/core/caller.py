"""Who asks: the tenant, and the trace that the request belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.contracts.base import check_token
from shared.errors import Permanent

TENANT_HEADER = "X-Millrace-Tenant"
SESSION_HEADER = "Millrace-Session"
"""In answers the session of a task; in requests of `/v1/messages` the session to go on with."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated side of a request."""

    tenant: str = "default"
    trace_id: str = ""


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


def trace_of(header: str | None) -> str:
    """The trace id of a W3C `traceparent`; empty where there is none or it is malformed."""
    found = _TRACEPARENT.fullmatch(header or "")
    if found is None or set(found.group(1)) == {"0"}:
        return ""
    return found.group(1)
