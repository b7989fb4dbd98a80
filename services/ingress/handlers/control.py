"""What people say to a task: steer, approve, reject, retry. The session answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.ingress.core.access.caller import Caller
from services.ingress.core.tasks.control import ApproveBody, RejectBody, RetryBody, SteerBody
from services.ingress.core.tasks.repetition import (
    check_same_retry,
    check_same_words,
    fingerprint_of,
)
from services.ingress.core.tasks.state import task_of_key
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import Keyed, TaskHandle
from shared.contracts.base import as_token


def _anybody() -> None:
    """Nobody is refused."""


@dataclass(frozen=True, slots=True)
class ControlHandlers:
    """`/v1/tasks/{id}/{steer,approve,reject,retry}`.

    `admit` refuses new work that the caller may not cause now; what runs already goes on.
    """

    keyed: Keyed
    admit: Callable[[], None] = _anybody

    async def steer(
        self, caller: Caller, task: TaskHandle, body: SteerBody, key: str | None
    ) -> int:
        """The sequence of what was said; the same key says it once.

        Raises:
            Permanent: `not_running`, `task_ended`, `idempotency_conflict`.
        """
        if key is None:
            return await task.steer(body.text, by=body.by)
        asked = fingerprint_of(body, task.session, task.id)
        async with standing_for(self.keyed, caller, key, asked):
            name = as_token(caller.own(key))
            seq = await task.steer(body.text, id=name, by=body.by)
            check_same_words(await task.facts(), seq, body.text)
        return seq

    async def approve(self, task: TaskHandle, body: ApproveBody) -> int:
        """The sequence of the approval.

        Raises:
            Permanent: `not_parked`, `step_needed`, `invalid_arguments`.
        """
        return await task.approve(
            body.step,
            arguments=body.as_arguments(),
            result=body.result,
            limits=body.limits.as_patch() if body.limits else None,
            by=body.by,
            note=body.note,
        )

    async def reject(self, task: TaskHandle, body: RejectBody) -> int:
        """The sequence of the rejection.

        Raises:
            Permanent: `not_parked`, `step_needed`.
        """
        return await task.reject(body.step, by=body.by, note=body.note)

    async def retry(
        self, caller: Caller, task: TaskHandle, body: RetryBody, key: str | None
    ) -> TaskHandle:
        """The new task; a key names it, so that it is made once.

        Raises:
            Permanent: `not_failed`, `superseded`, `idempotency_conflict`.
            Transient: why it is not admitted.
        """
        self.admit()
        if key is None:
            return await task.retry(None, body.by, caller.key)
        asked = fingerprint_of(body, task.session, task.id)
        async with standing_for(self.keyed, caller, key, asked):
            new = await task.retry(task_of_key(caller.tenant, caller.own(key)), body.by, caller.key)
            check_same_retry(await new.facts(), task.id)
        return new
