"""Where a new task goes: its id, its session, and whether it has been submitted before."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from services.ingress.core.access.caller import Caller
from services.ingress.core.tasks.repetition import check_same_task, fingerprint_of
from services.ingress.core.tasks.state import session_of_task, task_of_key
from services.ingress.ports import TaskHandle, Tasks
from shared.clock import mint_id
from shared.contracts.base import SessionRef, check_token
from shared.errors import Permanent


@dataclass(frozen=True, slots=True)
class Placement:
    """`known` is the task that the same idempotency key has made before."""

    ref: SessionRef
    task: str
    known: TaskHandle | None = None
    fingerprint: str = ""


async def place(
    tasks: Tasks, caller: Caller, key: str | None, session: str | None, body: BaseModel
) -> Placement:
    """Name the task and its session.

    Without a session the name is derived from the task, so that a repeated request finds the
    session of the first one. The server forgets message ids after minutes; the log does not, so
    a key is looked up there.

    Raises:
        Permanent: `invalid_name`; `idempotency_conflict` where the key has been used in another
            session, or with another body.
    """
    if session is not None:
        check_token(session, "session")
    tenant = caller.tenant
    task = mint_id("task") if key is None else task_of_key(tenant, caller.own(key))
    ref = SessionRef(tenant, session or session_of_task(task))
    if key is None:
        return Placement(ref, task)
    known = await tasks.known(ref, task)
    if known is not None and known.session != ref.session:
        raise Permanent(
            "idempotency_conflict",
            f"the key names a task of session {known.session!r} already",
            field="idempotency_key",
        )
    fingerprint = fingerprint_of(body)
    if known is not None:
        check_same_task(await known.facts(), fingerprint)
    return Placement(ref, task, known, fingerprint)
