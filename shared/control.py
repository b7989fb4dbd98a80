"""Control of a task by its client: requests that sessions answers once their fact is durable."""

from __future__ import annotations

from typing import Protocol

from shared.bus import claims
from shared.bus.connect import Bus
from shared.clock import mint_id
from shared.contracts.agents import LimitsPatch
from shared.contracts.base import Message, SessionRef, check_token, decode, encode
from shared.contracts.control import (
    ApproveStep,
    CancelTask,
    ControlReply,
    GiveResult,
    RejectStep,
    RetryTask,
    SteerTask,
)
from shared.contracts.log import StoredFact
from shared.contracts.tasks import Terms
from shared.errors import Permanent, error_of
from shared.subjects import control_subject
from shared.waiting import the_step

_PATIENCE = 15.0


class Controlled(Protocol):
    """What the verbs need of a task."""

    id: str

    async def order(self, verb: str, order: Message) -> int:
        """Send a request; the sequence of its fact."""

    async def facts(self) -> list[StoredFact]:
        """What the log holds of the task."""


class Control:
    """The verbs. Each answers with the sequence of the fact that records it.

    All of them raise `Permanent` `task_ended`, `unknown_task` or what the verb names, and
    `Transient` `no_responders` while no sessions service runs.
    """

    async def cancel(self: Controlled, by: str = "", reason: str = "") -> int:
        """Ask for the task to stop, whether it runs or waits in the queue."""
        return await self.order("cancel", CancelTask(task=self.id, by=by, reason=reason))

    async def steer(self: Controlled, text: str, *, id: str | None = None, by: str = "") -> int:
        """Say something to the running task; the model reads it before its next answer.

        The same `id` is said once.

        Raises:
            Permanent: `not_running`, `invalid_text`.
        """
        if not text.strip():
            raise Permanent("invalid_text", "there is nothing to say", field="text")
        name = check_token(id or mint_id("say"), "id")
        return await self.order("steer", SteerTask(task=self.id, text=text, id=name, by=by))

    async def approve(
        self: Controlled,
        step: int | None = None,
        *,
        arguments: str | None = None,
        result: str | None = None,
        limits: LimitsPatch | None = None,
        by: str = "",
        note: str = "",
    ) -> int:
        """Let a parked step go on; without `step` the only one that waits.

        `arguments` (JSON) replaces what the model wrote, `result` stands for a call that is then
        not run, `limits` are new bounds for a task that waits for its budget.

        Raises:
            Permanent: `not_parked`, `step_needed`, `invalid_arguments`.
        """
        order = ApproveStep(
            task=self.id,
            step=the_step(await self.facts()) if step is None else step,
            by=by,
            note=note,
            arguments=arguments,
            result=result,
            limits=limits,
        )
        return await self.order("approve", order)

    async def reject(
        self: Controlled, step: int | None = None, *, by: str = "", note: str = ""
    ) -> int:
        """Do not let a parked step go on; the model reads the note as the call's error.

        Raises:
            Permanent: `not_parked`, `step_needed`.
        """
        number = the_step(await self.facts()) if step is None else step
        return await self.order("reject", RejectStep(task=self.id, step=number, by=by, note=note))

    async def answer(
        self: Controlled, call: str, result: str, *, terms: Terms | None = None, by: str = ""
    ) -> int:
        """Say what a tool of the client's own returned for a call; the first result counts.

        `terms` is what the client wants from here on, where it is something else than before.

        Raises:
            Permanent: `unknown_call`, `not_parked`; why the terms cannot be.
        """
        order = GiveResult(task=self.id, call=call, result=result, by=by, terms=terms)
        return await self.order("result", order)

    async def retry_as(self: Controlled, task: str, by: str = "", key: str = "") -> int:
        """Go on where the task failed, as a new task of this name in the same session.

        `key` is the id of the API key that pays for it.

        Raises:
            Permanent: `not_failed`, `superseded`.
        """
        order = RetryTask(task=self.id, retry=check_token(task, "task"), by=by, key=key)
        return await self.order("retry", order)


async def send_order(bus: Bus, ref: SessionRef, verb: str, order: Message) -> int:
    """The request itself; an error in the reply is raised."""
    body, headers = await claims.checked_in(bus, ref, encode(order), keep=claims.FOR_REPLIES)
    subject = control_subject(ref, verb)
    reply = decode(await bus.request(subject, body, _PATIENCE, headers), ControlReply)
    if reply.error is not None:
        raise error_of(reply.error)
    return reply.sequence
