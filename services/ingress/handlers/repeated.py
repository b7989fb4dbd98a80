"""Requests under an idempotency key: the key stands for one of them, in whatever session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from services.ingress.core.access.caller import Caller
from services.ingress.core.tasks.state import task_of_key
from services.ingress.ports import Keyed
from shared.errors import Permanent, Transient


@asynccontextmanager
async def standing_for(
    keyed: Keyed, caller: Caller, key: str | None, fingerprint: str
) -> AsyncIterator[None]:
    """Do something in the name of a key; a key whose first request is refused is free again.

    What is done inside has to be the same when it is done again: the key says that it is the same
    request, not that it came to its end.

    Raises:
        Permanent: `idempotency_conflict`.
    """
    if key is None:
        yield
        return
    name = task_of_key(caller.tenant, caller.own(key))
    taken = await keyed.take(caller.tenant, name, fingerprint)
    try:
        yield
    except Permanent:
        if taken:
            with suppress(Transient):  # then it goes on to stand for what was refused
                await keyed.give_back(caller.tenant, name)
        raise
