"""One short function per message of the tools service: run a call, say what came of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.tools.core.legs import Legs
from services.tools.core.registry import Registry, Tool, ToolContext
from services.tools.ports import Promises
from shared.contracts.base import Message, SessionRef
from shared.contracts.facts import Parked, ToolDone, ToolFailed, ToolStarted
from shared.contracts.work import RunTool
from shared.errors import Failure, Permanent, Transient

MAX_RESULT = 4 << 20
"""Bytes; what is longer does not fit into a model's context anyway."""
_REMEMBERED = 1024
Key = tuple[SessionRef, str, int, int, int]
"""An attempt at a step, and its place: a deleted session may see the same names again."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A tool call as it was delivered.

    `executor` names this very delivery, and `sent` is when it was handed out (the broker's clock).
    """

    work: RunTool
    attempt: int = 1
    executor: str = ""
    sent: float = 0.0
    doubtful: bool = False
    """Somebody may have done it already."""

    @property
    def key(self) -> Key:
        """Which attempt at which step, and where that stands in the log."""
        work = self.work
        return (work.ref, work.task, work.step, work.attempt, work.seq)


class OutcomeUnknown(Exception):
    """A tool with side effects ended in a way that does not tell whether it happened."""


class Handlers:
    """Runs tools within their bounds; `ticks` gives seconds for durations."""

    def __init__(self, registry: Registry, promises: Promises, ticks: Callable[[], float]) -> None:
        self._registry, self._promises, self._ticks = registry, promises, ticks
        self._room = {
            spec.name: asyncio.Semaphore(registry.get(spec.name).concurrency)
            for spec in registry.specs()
        }
        self._running: dict[Key, asyncio.Lock] = {}
        self._answered: OrderedDict[Key, Sequence[Message]] = OrderedDict()

    async def run(self, job: Assignment) -> Sequence[Message]:
        """Run a call, or answer a repeated one with what the first came to; nothing comes back
        where the log shows that nobody waits for it any more.

        A `Permanent` error is the tool's answer; a `Transient` one is a fact too, and the loop
        decides when to try again.
        """
        lock = self._running.setdefault(job.key, asyncio.Lock())
        async with lock:
            try:
                if job.key not in self._answered:
                    if job.doubtful and await self._promises.settled(job.work):
                        return []
                    self._answered[job.key] = [await self._once(job)]
                    if len(self._answered) > _REMEMBERED:
                        self._answered.popitem(last=False)
                return self._answered[job.key]
            finally:
                self._running.pop(job.key, None)

    async def _once(self, job: Assignment) -> Message:
        work, begun = job.work, self._ticks()
        legs = Legs(self._ticks, begun)
        try:
            tool = self._registry.get(work.name)
            arguments = tool.read(work.arguments)
            async with self._room[work.name]:
                if tool.side_effects and not await self._promises.begin(_start(job), work.ref):
                    return _unknown(job)
                result = await self._bounded(tool, job, arguments, legs)
        except Permanent as error:
            return self._failed(job, error.as_failure(), begun)
        except OutcomeUnknown:
            return _unknown(job)
        except ToolBusy as error:
            return self._failed(job, error.as_failure(), begun, retry=not work.final)
        return ToolDone(
            task=work.task,
            step=work.step,
            call=work.call,
            name=work.name,
            result=result,
            duration_ms=self._elapsed(begun),
            attempt=job.attempt,
            legs=legs.found,
        )

    def give_up(self, job: Assignment, failure: Failure) -> Sequence[Message]:
        """What is published when the last try has failed."""
        return [self._failed(job, failure, self._ticks())]

    async def _bounded(
        self, tool: Tool, job: Assignment, arguments: dict[str, object], legs: Legs
    ) -> str:
        """The result, in time: the tool's own bound or what the task has left."""
        work = job.work
        left = work.deadline - job.sent if work.deadline else tool.timeout
        if left <= 0:
            raise Permanent("deadline_exceeded", "the task has run out of time")
        try:
            async with asyncio.timeout(min(left, tool.timeout)):
                result = await tool.run(_context(work, legs), arguments)
        except TimeoutError as error:
            if tool.side_effects:
                raise OutcomeUnknown from error
            raise ToolBusy("tool_timeout", "timeout") from error
        except Transient as error:
            raise ToolBusy(error.code, error.detail, retry_after=error.retry_after) from error
        if len(result.encode()) > MAX_RESULT:
            raise Permanent("result_too_large", f"the result is longer than {MAX_RESULT} bytes")
        return result

    def _failed(
        self, job: Assignment, failure: Failure, begun: float, *, retry: bool = False
    ) -> ToolFailed:
        work = job.work
        return ToolFailed(
            task=work.task,
            step=work.step,
            call=work.call,
            name=work.name,
            error=failure,
            duration_ms=self._elapsed(begun),
            attempt=job.attempt,
            retry=retry,
        )

    def _elapsed(self, begun: float) -> float:
        return round((self._ticks() - begun) * 1000, 3)


class ToolBusy(Transient):
    """The tool itself cannot at the moment (a lost connection to the bus is none of that)."""


def _context(work: RunTool, legs: Legs) -> ToolContext:
    return ToolContext(
        tenant=work.ref.tenant,
        session=work.ref.session,
        task=work.task,
        step=work.step,
        call=work.call,
        collection=work.collection,
        legs=legs,
    )


def _start(job: Assignment) -> ToolStarted:
    work = job.work
    return ToolStarted(
        task=work.task,
        step=work.step,
        call=work.call,
        name=work.name,
        executor=job.executor,
        attempt=work.attempt,
    )


def _unknown(job: Assignment) -> Parked:
    """It may have happened: only a person can find out, so only a person may go on."""
    work = job.work
    return Parked(
        task=work.task,
        step=work.step,
        reason="unknown_outcome",
        detail=f"{work.name} {work.arguments}",
        attempt=work.attempt,
    )
