"""Durable tasks and their sessions: submit, wait, look, cancel. Everything is in the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from services.ingress.core.access.caller import Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.tasks.bodies import CancelBody, ForkBody, TaskBody
from services.ingress.core.tasks.repetition import fingerprint_of
from services.ingress.core.tasks.state import Json, Order, fact_data, session_state, task_state
from services.ingress.handlers.placement import place
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import Catalog, Keyed, TaskHandle, Tasks
from shared.contracts.base import SessionRef, check_token
from shared.contracts.facts import Done
from shared.contracts.log import Event
from shared.contracts.tasks import Terms
from shared.errors import Permanent, Transient
from shared.events import parse_cursor


@dataclass(frozen=True, slots=True)
class TaskHandlers:
    """`/v1/tasks` and `/v1/sessions`."""

    tasks: Tasks
    catalog: Catalog
    keyed: Keyed

    async def submit(self, caller: Caller, body: TaskBody, key: str | None) -> TaskHandle:
        """Check and submit a task.

        Raises:
            Permanent: `unknown_agent`, `invalid_name`, `idempotency_conflict`.
        """
        check_token(body.agent, "agent")
        caller.check_model(f"agent:{body.agent}", "agent")
        named = _one_key(key, body)
        async with standing_for(self.keyed, caller, named, fingerprint_of(body)):
            return await self._submitted(caller, body, named)

    async def _submitted(self, caller: Caller, body: TaskBody, key: str | None) -> TaskHandle:
        placed = await place(self.tasks, caller, key, body.session, body)
        if placed.known is not None:
            return placed.known
        find_agent(body.agent, await self.catalog.agents(caller.tenant), "agent")
        order = Order(
            ref=placed.ref,
            fingerprint=placed.fingerprint,
            key=caller.key,
            task=placed.task,
            agent=body.agent,
            input=body.as_input(),
            limits=body.limits.as_patch() if body.limits else None,
            metadata=body.metadata,
            on_busy=body.on_busy,
            terms=Terms(priority=body.priority),
        )
        return await self.tasks.submit(order, caller.trace_id)

    async def wait(self, task: TaskHandle, seconds: float) -> bool:
        """Whether the task ended within that time."""
        try:
            await task.result(timeout=seconds)
        except Transient as error:
            if error.code != "still_running":
                raise
            return False
        return True

    async def find(self, caller: Caller, task: str, session: str | None) -> TaskHandle:
        """An existing task.

        Raises:
            Permanent: `unknown_task`.
        """
        check_token(task, "task")
        if session is not None:
            return self.tasks.task(SessionRef(caller.tenant, check_token(session, "session")), task)
        found = await self.tasks.find(caller.tenant, task)
        if found is None:
            raise Permanent("unknown_task", f"there is no task {task!r}", field="task")
        return found

    async def state(self, caller: Caller, task: TaskHandle) -> Json:
        """Its state, folded from the log."""
        ref = SessionRef(caller.tenant, task.session)
        return task_state(ref, task.id, await task.facts())

    async def ended_before(self, caller: Caller, task: TaskHandle, after: str) -> bool:
        """Whether nothing can follow the event `after`.

        Raises:
            Permanent: `invalid_cursor`; `unknown_task` where there is nothing to follow.
        """
        seen = await self._place(SessionRef(caller.tenant, task.session), after)
        facts = await task.facts()
        if not facts:
            raise Permanent("unknown_task", f"there is no task {task.id!r}", field="task")
        return any(isinstance(stored.fact, Done) and stored.seq <= seen for stored in facts)

    async def cancel(self, task: TaskHandle, body: CancelBody) -> int:
        """The sequence of the request."""
        return await task.cancel(body.by, body.reason)

    async def session(self, caller: Caller, name: str) -> Json:
        """A session and its tasks."""
        ref = SessionRef(caller.tenant, check_token(name, "session"))
        return session_state(ref, await self.tasks.history(ref))

    async def history(self, caller: Caller, name: str, after: int, limit: int) -> Json:
        """A page of a session's facts; `next` is the `after` of the page behind it."""
        ref = SessionRef(caller.tenant, check_token(name, "session"))
        facts = await self.tasks.history(ref, after)
        if not facts and not await self.tasks.exists(ref):
            raise Permanent("unknown_session", f"there is no session {name!r}", field="session")
        page = facts[:limit]
        return {
            "session": name,
            "facts": [fact_data(stored) for stored in page],
            "next": page[-1].seq if len(facts) > limit else None,
        }

    async def follow(self, caller: Caller, name: str, after: str) -> AsyncGenerator[Event]:
        """All that happens in a session behind a cursor, without an end.

        Raises:
            Permanent: `invalid_name`, `invalid_cursor`; here, not with the first event.
        """
        ref = SessionRef(caller.tenant, check_token(name, "session"))
        await self._place(ref, after)
        return self.tasks.events(ref, after)

    async def _place(self, ref: SessionRef, after: str) -> int:
        """The sequence that a cursor of the session names."""
        seen = parse_cursor(after).seq
        if seen:
            await self.tasks.check_place(ref, seen)
        return seen

    async def fork(self, caller: Caller, name: str, body: ForkBody) -> Json:
        """A new session that goes on from a step of this one, and the task that runs in it.

        Raises:
            Permanent: `unknown_session`, `unknown_task`, `unknown_step`, `session_exists`,
                `invalid_step`, `invalid_name`, `invalid_arguments`.
        """
        ref = SessionRef(caller.tenant, check_token(name, "session"))
        if body.model:
            caller.check_model(body.model)
        child, origin = await self.tasks.fork(ref, body, caller.key)
        return {
            "session": child,
            "task": origin.task,
            "parent": origin.parent,
            "step": origin.step,
            "events": f"/v1/tasks/{origin.task}/events?session={child}",
        }


def _one_key(header: str | None, body: TaskBody) -> str | None:
    """The idempotency key of the header or of the body.

    Raises:
        Permanent: `invalid_request` where both are there and differ.
    """
    if header is not None and body.idempotency_key not in (None, header):
        raise Permanent(
            "invalid_request", "differs from the header Idempotency-Key", field="idempotency_key"
        )
    return header if header is not None else body.idempotency_key
