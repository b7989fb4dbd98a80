"""One short function per message of the tools service: run a call, say what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.tools.core.registry import Registry, Tool, ToolContext
from shared.contracts.base import Message
from shared.contracts.facts import ToolDone, ToolFailed
from shared.contracts.work import RunTool
from shared.errors import Failure, Permanent, Transient

MAX_RESULT = 256 * 1024
"""Bytes; what is longer does not fit into a model's context anyway."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A tool call and the number of this try."""

    work: RunTool
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` in epoch seconds for deadlines, `ticks` in seconds for durations."""

    now: Callable[[], float]
    ticks: Callable[[], float]


class Handlers:
    """Runs tools within their bounds."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry, self._clock = registry, clock
        self._room = {
            spec.name: asyncio.Semaphore(registry.get(spec.name).concurrency)
            for spec in registry.specs()
        }

    async def run(self, job: Assignment) -> Sequence[Message]:
        """Run a call. A `Permanent` error is the tool's answer; a `Transient` one is retried."""
        work, begun = job.work, self._clock.ticks()
        try:
            tool = self._registry.get(work.name)
            arguments = tool.read(work.arguments)
            async with self._room[work.name]:
                result = await self._bounded(tool, work, arguments)
        except Permanent as error:
            return [self._failed(job, error.as_failure(), begun)]
        return [
            ToolDone(
                task=work.task,
                step=work.step,
                call=work.call,
                name=work.name,
                result=result,
                duration_ms=self._elapsed(begun),
                attempt=job.attempt,
            )
        ]

    def give_up(self, job: Assignment, failure: Failure) -> Sequence[Message]:
        """What is published when the last try has failed."""
        return [self._failed(job, failure, self._clock.ticks())]

    async def _bounded(self, tool: Tool, work: RunTool, arguments: dict[str, object]) -> str:
        """The result, in time: the tool's own bound or what the task has left."""
        left = work.deadline - self._clock.now() if work.deadline else tool.timeout
        if left <= 0:
            raise Permanent("deadline_exceeded", "the task has run out of time")
        context = ToolContext(
            tenant=work.ref.tenant,
            session=work.ref.session,
            task=work.task,
            step=work.step,
            call=work.call,
            collection=work.collection,
        )
        try:
            async with asyncio.timeout(min(left, tool.timeout)):
                result = await tool.run(context, arguments)
        except TimeoutError as error:
            raise Transient("tool_timeout", "timeout") from error
        if len(result.encode()) > MAX_RESULT:
            raise Permanent("result_too_large", f"the result is longer than {MAX_RESULT} bytes")
        return result

    def _failed(self, job: Assignment, failure: Failure, begun: float) -> ToolFailed:
        work = job.work
        return ToolFailed(
            task=work.task,
            step=work.step,
            call=work.call,
            name=work.name,
            error=failure,
            duration_ms=self._elapsed(begun),
            attempt=job.attempt,
        )

    def _elapsed(self, begun: float) -> float:
        return round((self._clock.ticks() - begun) * 1000, 3)
