"""What several routes need: the caller, headers with a meaning, the list of models."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from starlette.datastructures import Headers
from starlette.types import Scope

from services.ingress.adapters.http.access import CALLER_KEY
from services.ingress.adapters.http.errors import trace_id_of
from services.ingress.core.access.caller import TENANT_HEADER, Caller, tenant_of
from services.ingress.core.catalog import Json, Page, models
from services.ingress.ports import Catalog, Named
from shared.errors import MillraceError, Permanent

_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])")
_PAGED = "with the header anthropic-version; without it the list is whole"
LONGEST_WAIT = 300
"""Seconds; whoever wants to wait longer follows the events."""


def caller_of(scope: Scope) -> Caller:
    """Who has been let in by a key; without keys only this machine can call, and says who it is.

    Raises:
        Permanent: `invalid_name`.
    """
    known = scope.get(CALLER_KEY)
    if isinstance(known, Caller):
        return known
    return Caller(tenant_of(Headers(scope=scope).get(TENANT_HEADER)), trace_id_of(scope))


def known_caller(scope: Scope, *, open_: bool) -> Caller | None:
    """Whose request it was; None where that was never known. `open_`: there are no keys."""
    try:
        return caller_of(scope) if open_ or CALLER_KEY in scope else None
    except MillraceError:
        return None


async def _caller(request: Request) -> Caller:
    return caller_of(request.scope)


async def _idempotency_key(
    idempotency_key: Annotated[str | None, Header(max_length=256)] = None,
) -> str | None:
    if idempotency_key == "":
        raise Permanent("invalid_request", "the key is empty", field="Idempotency-Key")
    return idempotency_key


IdempotencyKey = Annotated[str | None, Depends(_idempotency_key)]


async def _named(
    key: IdempotencyKey, millrace_session: Annotated[str | None, Header(max_length=64)] = None
) -> Named:
    return Named(key, millrace_session)


async def _wait(prefer: Annotated[str | None, Header()] = None) -> int | None:
    """`Prefer: wait=N` (RFC 7240); other preferences may be ignored, that is their nature."""
    found = _WAIT.search(prefer or "")
    return min(int(found.group(1)), LONGEST_WAIT) if found else None


async def _page(
    limit: Annotated[int, Query(ge=1, le=1000, description=_PAGED)] = 20,
    after_id: Annotated[str | None, Query(max_length=256, description=_PAGED)] = None,
    before_id: Annotated[str | None, Query(max_length=256, description=_PAGED)] = None,
) -> Page:
    return Page(limit, after_id, before_id)


CallerOf = Annotated[Caller, Depends(_caller)]
NamedBy = Annotated[Named, Depends(_named)]
PageOf = Annotated[Page, Depends(_page)]
Wait = Annotated[int | None, Depends(_wait)]


async def known_models(catalog: Catalog, tenant: str) -> list[Json]:
    """What can stand in `model` for a tenant."""
    agents, workers = await catalog.agents(tenant), await catalog.workers()
    return models(await catalog.routes(), agents, workers, catalog.embeds)
