"""Chat completions of an agent: a task, or the part of one between two results of its client."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from services.ingress.core.access.caller import Caller
from services.ingress.core.catalog import find_agent
from services.ingress.core.chat.agents import (
    AgentChunks,
    given_in_chat,
    task_input,
    terms_of_chat,
)
from services.ingress.core.chat.body import ChatBody
from services.ingress.core.chat.chunks import Chunk, Frame, completion
from services.ingress.core.responses.fold import Place, responses_of
from services.ingress.core.responses.input import Given, missing
from services.ingress.core.responses.place import Answers, outputs_of, task_of
from services.ingress.core.tasks.repetition import fingerprint_of
from services.ingress.core.tasks.state import Json, Order, session_of_task
from services.ingress.handlers.answers import go_on
from services.ingress.handlers.placement import place
from services.ingress.handlers.repeated import standing_for
from services.ingress.ports import Answer, Catalog, Chunks, Keyed, TaskHandle, Tasks
from shared.clock import now
from shared.contracts.base import SessionRef
from shared.contracts.tasks import Terms
from shared.errors import Transient


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a task that a client waits for."""

    task: TaskHandle
    place: Place

    @property
    def headers(self) -> dict[str, str]:
        return {"Millrace-Task": self.task.id, "Millrace-Session": self.task.session}

    def frame(self, body: ChatBody) -> Frame:
        number = f"_{self.place.number}" if self.place.number else ""
        return Frame(
            id=f"chatcmpl_{self.task.id}{number}",
            created=int(now()),
            model=body.model,
            include_usage=body.include_usage,
            extra={"millrace": {"task": self.task.id, "session": self.task.session}},
        )


@dataclass(frozen=True, slots=True)
class AgentChat:
    """`POST /v1/chat/completions` with `model: agent:<name>`."""

    tasks: Tasks
    catalog: Catalog
    keyed: Keyed

    async def answer(self, caller: Caller, body: ChatBody, key: str | None) -> Answer:
        """The whole answer at once."""
        part = await self._part(caller, body, key)
        view = AgentChunks(frame := part.frame(body), part.place)
        async with aclosing(part.task.events()) as events:
            async for event in events:
                if (choice := view.whole(event)) is not None:
                    return Answer(completion(frame, [choice]), part.headers)
        raise Transient("request_timeout", "the answer ended before it was complete")

    async def stream(self, caller: Caller, body: ChatBody, key: str | None) -> Chunks[Chunk]:
        """Chunks; the client can come back to the task."""
        part = await self._part(caller, body, key)
        view = AgentChunks(part.frame(body), part.place)
        return Chunks(_chunks(part.task, view), part.headers, durable=True)

    async def _part(self, caller: Caller, body: ChatBody, key: str | None) -> _Part:
        """What the request begins, or goes on with.

        Raises:
            Permanent: what is wrong with it, naming the field.
        """
        async with standing_for(self.keyed, caller, key, fingerprint_of(body)):
            return await self._begun(caller, body, key)

    async def _begun(self, caller: Caller, body: ChatBody, key: str | None) -> _Part:
        spec = find_agent(body.agent or "", await self.catalog.agents(caller.tenant), "model")
        terms, given = terms_of_chat(body, spec.sampling), given_in_chat(body)
        metadata = dict(body.metadata or {})
        session = metadata.pop("session", None)
        placed = await place(self.tasks, caller, key, session, body)
        if given.results and (part := await self._continued(placed.ref, body, given, terms)):
            return part
        if placed.known is not None:
            return _Part(placed.known, Place(placed.known.id))
        existing = await self.tasks.exists(placed.ref)
        if existing and (body.tools or given.results):
            await self._check_waiting(placed.ref)
        order = Order(
            ref=placed.ref,
            fingerprint=placed.fingerprint,
            key=caller.key,
            task=placed.task,
            agent=spec.name,
            input=task_input(body, existing=existing),
            sampling=terms.sampling,
            metadata=metadata | ({"user": body.user} if body.user else {}),
            terms=terms,
        )
        task = await self.tasks.submit(order, caller.trace_id)
        return _Part(task, Place(task.id))

    async def _continued(
        self, ref: SessionRef, body: ChatBody, given: Given, terms: Terms
    ) -> _Part | None:
        """The part that the results at the end of a chat open, where they fit."""
        outputs = outputs_of(given.results)
        task = await self._asking(ref, task_of(outputs))
        if task is None:
            return None
        found = await go_on(task, Answers(outputs, given.after, terms), body.agent or "")
        return None if found is None else _Part(task, found.place)

    async def _asking(self, ref: SessionRef, name: str | None) -> TaskHandle | None:
        """The task that made the calls: their ids name it, else it is the session's newest."""
        if name is not None:
            return await self.tasks.known(SessionRef(ref.tenant, session_of_task(name)), name)
        parts = responses_of(await self.tasks.history(ref))
        return self.tasks.task(ref, parts[-1].place.task) if parts else None

    async def _check_waiting(self, ref: SessionRef) -> None:
        """A question behind calls that wait for their client would wait with them."""
        parts = responses_of(await self.tasks.history(ref))
        if parts and parts[-1].waiting:
            raise missing(parts[-1].waiting[0].id)


async def _chunks(task: TaskHandle, view: AgentChunks) -> AsyncGenerator[Json]:
    async with aclosing(task.events()) as events:
        yield view.start()
        async for event in events:
            for chunk in view.of(event):
                yield chunk
            if view.ended:
                return
