"""What a frame of a session's socket does: the same as the HTTP path of its name."""

from __future__ import annotations

from dataclasses import dataclass

from services.ingress.core.access.caller import Caller
from services.ingress.core.tasks.bodies import CancelBody, TaskBody
from services.ingress.core.tasks.control import ApproveBody, RejectBody, RetryBody, SteerBody
from services.ingress.core.tasks.socket import Command
from services.ingress.core.tasks.state import Json
from services.ingress.ports import ControlApi, TaskHandle, TasksApi
from shared.errors import Broken, Permanent


@dataclass(frozen=True, slots=True)
class SocketHandlers:
    """Everything but `follow` and `unfollow`, which are the transport's."""

    tasks: TasksApi
    control: ControlApi

    async def answer(self, caller: Caller, session: str, command: Command) -> Json:
        """What is done, as the answer shows it.

        Raises:
            Permanent: what the HTTP path of that name raises.
        """
        if isinstance(command.body, TaskBody):
            return await self._submit(caller, session, command.body)
        task = await self.tasks.find(caller, command.task, session)
        if isinstance(command.body, RetryBody):
            new = await self.control.retry(caller, task, command.body, command.key)
            return {"task": new.id, "session": new.session, "retry_of": task.id}
        sequence = await self._record(caller, task, command)
        return {"task": task.id, "session": task.session, "sequence": sequence}

    async def _submit(self, caller: Caller, session: str, body: TaskBody) -> Json:
        if body.session not in (None, session):
            raise Permanent(
                "invalid_request", f"this socket is of session {session!r}", field="session"
            )
        asked = body.model_copy(update={"session": session})
        task = await self.tasks.submit(caller, asked, None)
        return {"task": task.id, "session": task.session, "events": f"/v1/tasks/{task.id}/events"}

    async def _record(self, caller: Caller, task: TaskHandle, command: Command) -> int:
        match command.body:
            case SteerBody() as body:
                return await self.control.steer(caller, task, body, command.key)
            case ApproveBody() as body:
                return await self.control.approve(task, body)
            case RejectBody() as body:
                return await self.control.reject(task, body)
            case CancelBody() as body:
                return await self.tasks.cancel(task, body)
        raise Broken("internal", f"nothing does {command.type!r}")
